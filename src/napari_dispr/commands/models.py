"""``napari-dispr models``: list, describe, import, export and remove shape models."""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from napari_dispr.card import Card
from napari_dispr.commands import common
from napari_dispr.errors import InputError, counted, words_of


def add(commands: Any) -> None:
    kinds = common.add_group(commands, "models", "list, describe, import, export and remove shape models")
    common.add_command(kinds, "list", list_models, "list all models")
    command = common.add_command(
        kinds, "info", model_info, "describe a model: purpose, training data, scores"
    )
    command.add_argument("model", help="name from `models list`, or a file")
    command.add_argument("--json", action="store_true", help="print JSON, for programs")
    command = common.add_command(
        kinds, "import", import_model, "add a model file, or an original DISPR checkpoint, to your models"
    )
    command.add_argument(
        "file", type=Path, help="NAME.safetensors, or [ema]savedmodel*.pt of the original DISPR"
    )
    command.add_argument(
        "--name", help="name for the model (default: the name in the file; dispr for a checkpoint)"
    )
    original = command.add_argument_group("options for checkpoints of the original DISPR")
    original.add_argument(
        "--out", type=Path, help="model file to write; the model is then not added to your models"
    )
    for flag, (kind, text) in _ORIGINAL_FLAGS.items():
        original.add_argument(f"--{flag}", f"--{flag.replace('_', '-')}", type=kind, help=text)
    command = common.add_command(kinds, "export", export_model, "write a model into one file, to share it")
    command.add_argument("model", help="name from `models list`, or a file")
    command.add_argument("--out", type=Path, required=True, help="file or folder to write to")
    command = common.add_command(kinds, "remove", remove_model, "delete a model of your own")
    command.add_argument("name", help="name of the model")


def list_models(options: argparse.Namespace) -> None:
    from napari_dispr.models.library import available_fits, available_models, is_shipped, read_card

    models, fits = available_models(), available_fits()
    width = max(map(len, [*models, *fits]))
    for name, path in models.items():
        try:
            text = read_card(path).description
        except InputError as error:
            text = str(error)
        whose = "shipped" if is_shipped(path) else "yours"
        print(f"{name:{width}}  {whose:7}  {_megabytes(path):>8}  {text}".rstrip())
    for name, text in fits.items():
        print(f"{name:{width}}  fit      {'':8}  {text}")


def _megabytes(path: Path) -> str:
    return f"{path.stat().st_size / 1e6:.1f} MB"


# --- info -------------------------------------------------------------------------------------------


def model_info(options: argparse.Namespace) -> None:
    from napari_dispr.models.library import available_fits, is_shipped, load_model, model_path, read_card

    if options.model in available_fits():
        fit = read_card(options.model).model_dump(mode="json", include={"name", "description", "rival"})
        if options.json:
            print(json.dumps(fit, indent=2))
        else:
            print(options.model)
            _print_fields({**fit, "name": None})
        return
    path = model_path(options.model)
    model = load_model(path.absolute())
    card = _shortened(model.card)
    status = path.stat()
    date = card["training"].get("date") or datetime.fromtimestamp(status.st_mtime).date().isoformat()
    file = {"path": str(path), "shipped": is_shipped(path), "size": status.st_size, "date": date}
    if options.json:
        print(json.dumps({**card, "hash": model.hash, "file": file}, indent=2))
        return
    qualities = (
        f"{name} ({counted(q.steps, 'evaluation')}, {q.sampler})" for name, q in model.card.qualities.items()
    )
    shipped = " (shipped with napari-dispr)" if is_shipped(path) else ""
    print(model.name)
    _print_fields(
        {
            "file": f"{path}{shipped}",
            "size": _megabytes(path),
            "date": date,
            "hash": model.hash,
            **card,
            "name": None,
            "qualities": ", ".join(qualities) or "one shape per cell",
        }
    )


def _shortened(card: Card) -> dict[str, Any]:
    """A card as JSON; of long tables it only has the number of cells that they were made from."""
    short = card.model_dump(mode="json")
    short["plane_intervals"] = [
        {"gap": one.gap, **{name: f"from {c.cells} cells" for name, c in one.measures.items()}}
        for one in card.plane_intervals
    ]
    short["intervals"] = {name: f"from {c.cells} cells" for name, c in card.intervals.items()}
    short["novelty"] = card.novelty and f"from {card.novelty.cells} cells"
    short["heights"] = card.heights and f"from {card.heights.cells} cells"
    short["volume"] = card.volume and f"from {len(card.volume.cells)} cells"
    return short


def _print_fields(fields: Mapping[str, Any], indent: int = 2) -> None:
    width = max(map(len, fields))
    for name, value in fields.items():
        if value in (None, "", [], {}):
            continue
        if isinstance(value, Mapping) and (line := _on_one_line(value)) is None:
            print(f"{'':{indent}}{name}")
            _print_fields(value, indent + 2)
        else:
            text = line if isinstance(value, Mapping) else _text(value)
            print(f"{'':{indent}}{name:{width}}  {text}")


def _on_one_line(numbers: Mapping[str, Any]) -> str | None:
    """Text for a mapping of numbers, or of distributions (their medians); else None."""
    medians = all(isinstance(value, Mapping) and "median" in value for value in numbers.values())
    shown = {name: value["median"] for name, value in numbers.items()} if medians else numbers
    if not all(isinstance(value, int | float) for value in shown.values()):
        return None
    line = ", ".join(f"{words_of(name)} {value:.3g}" for name, value in shown.items())
    return f"{line} (medians)" if medians else line


def _text(value: Any) -> str:
    if isinstance(value, list):
        if any(isinstance(one, Mapping) for one in value):
            return f"{len(value)} (see --json)"
        some = ", ".join(map(str, value[:3]))
        return some if len(value) <= 3 else f"{len(value)}: {some}, ... (all: --json)"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# --- import, export, remove -------------------------------------------------------------------------


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "y"):
        return True
    if text.lower() in ("false", "0", "no", "n"):
        return False
    raise argparse.ArgumentTypeError("give True or False")


#: Flags of the original code in its spelling. Most are read from the checkpoint.
_ORIGINAL_FLAGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "num_heads": (int, "attention heads; not in the checkpoint (1 with the flags of DISPR's README)"),
    "num_head_channels": (int, "channels per head, instead of num_heads"),
    "use_new_attention_order": (_yes_or_no, "split q, k, v before the heads (False)"),
    "diffusion_steps": (int, "T (1000)"),
    "noise_schedule": (str, "linear or cosine (linear)"),
    "rescale_timesteps": (_yes_or_no, "the network gets t * 1000 / T (False)"),
    "sigma_small": (_yes_or_no, "use the smaller fixed variance, if the variance is not learned (False)"),
    "predict_xstart": (_yes_or_no, "the network predicts the shape, not the noise (False)"),
    "image_size": (int, "side of the training data (64)"),
    "num_channels": (int, "checked against the checkpoint"),
    "num_res_blocks": (int, "checked against the checkpoint"),
    "channel_mult": (str, "checked against the checkpoint"),
    "attention_resolutions": (str, "checked against the checkpoint"),
    "use_scale_shift_norm": (_yes_or_no, "checked against the checkpoint"),
    "resblock_updown": (_yes_or_no, "checked against the checkpoint"),
    "learn_sigma": (_yes_or_no, "checked against the checkpoint"),
    "class_cond": (_yes_or_no, "checked against the checkpoint"),
}


def import_model(options: argparse.Namespace) -> None:
    from napari_dispr.models.library import check_name, check_new_file
    from napari_dispr.models.library import import_model as import_file

    flags = {flag: getattr(options, flag) for flag in _ORIGINAL_FLAGS}
    given = {flag: value for flag, value in flags.items() if value is not None}
    name = None if options.name is None else check_name(options.name)
    if options.file.suffix == ".safetensors":
        for option in [*given, *(["out"] if options.out else [])]:
            raise InputError(
                f"{options.file} is not a checkpoint of the original: leave --{option.replace('_', '-')} out."
            )
        imported = import_file(options.file, name)
    else:
        if options.out is not None:
            check_new_file(options.out)  # it may be a model that was trained for hours
            common.check_suffix(options.out, ".safetensors")
        from napari_dispr.diffusion.original import import_dispr_checkpoint

        model = import_dispr_checkpoint(options.file, name=name or "dispr", **given)
        if options.out is not None:
            model.save(options.out)
            print(f"{model.name}: {options.out}")
            return
        with tempfile.TemporaryDirectory() as folder:
            model.save(Path(folder) / "model.safetensors")
            imported = import_file(Path(folder) / "model.safetensors", load=False)
    there = "" if imported.new else " was there already"
    print(f"{imported.name}{there}: {imported.path}")


def export_model(options: argparse.Namespace) -> None:
    from napari_dispr.models.library import export_model as export_file

    print(export_file(options.model, options.out))


def remove_model(options: argparse.Namespace) -> None:
    from napari_dispr.models.library import remove_model as remove_file

    print(f"{options.name} is removed: {remove_file(options.name)}")
