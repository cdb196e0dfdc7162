"""The command line: thin shells over the verbs. Exit status 0; 2 for bad input; 130 when interrupted."""

import argparse
import json
import sys
import tempfile
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from napari_dispr import __version__
from napari_dispr.errors import InputError
from napari_dispr.settings import PredictSettings, Settings, checked_settings

if TYPE_CHECKING:
    from collections.abc import Generator

    from numpy.typing import NDArray

    from napari_dispr.results import Prediction

Result = TypeVar("Result")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        raise InputError(f"{message}: see {self.prog} --help.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    try:
        options = _parser().parse_args(arguments)
        options.command(options)
    except InputError as error:
        print(f"napari-dispr: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"napari-dispr: {error.filename or 'file'}: {error.strerror or error}.", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("napari-dispr: interrupted; what was finished is kept.", file=sys.stderr)
        return 130
    return 0


def _parser() -> _Parser:
    parser = _Parser(
        prog="napari-dispr", description="Ensembles of 3D cell shapes from one 2D microscopy picture."
    )
    parser.add_argument("--version", action="version", version=f"napari-dispr {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    command = _command(commands, "demo", demo, "the whole job on simulated cells: members, table, picture")
    command.add_argument("--out", type=Path, default=Path("demo"), help="folder to write to (demo)")
    _add_settings(command, PredictSettings, {"model", "members", "quality", "seed", "device"})

    command = _command(commands, "predict", predict, "draw the ensembles of cells")
    command.add_argument("image", type=Path, help="2D picture, or a dataset folder of image/ and mask/")
    command.add_argument("labels", type=Path, nargs="?", help="its segmentation, one value a cell")
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.add_argument("--cells", help="labels of the cells, as 3,7 (all)")
    _add_settings(command, PredictSettings)

    command = _command(commands, "evaluate", evaluate, "errors against known 3D shapes")
    command.add_argument("dataset", type=Path, help="folder of train|test/{obj,image,mask}, or one such part")
    command.add_argument("--methods", default="model,cylinder,ellipsoid", help="methods (%(default)s)")
    command.add_argument("--out", type=Path, required=True, help="folder to write to")
    command.add_argument("--save-shapes", action="store_true", help="also write shapes/METHOD/NAME.tif")
    _add_settings(command, PredictSettings, set(PredictSettings.model_fields) - {"scale", "pixel_size"})

    models = commands.add_parser("models", help="list, describe and import shape models")
    kinds = models.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _command(kinds, "list", list_models, "the models that there are")
    command = _command(kinds, "info", model_info, "a model's card")
    command.add_argument("name", help="name or file")
    command = _command(kinds, "import", import_model, "make a model of an original DISPR checkpoint")
    command.add_argument("checkpoint", type=Path, help="savedmodel*.pt or emasavedmodel*.pt")
    command.add_argument("--out", type=Path, help="model file to write (NAME.safetensors among your models)")
    for flag, (kind, text) in _ORIGINAL_FLAGS.items():
        command.add_argument(f"--{flag}", f"--{flag.replace('_', '-')}", type=kind, help=text)
    return parser


def _command(
    commands: Any, name: str, run: Callable[[argparse.Namespace], None], text: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:]
    )
    parser.set_defaults(command=run)
    return parser


def _add_settings(
    parser: argparse.ArgumentParser, kind: type[Settings], only: set[str] | None = None
) -> None:
    """An option for each field; what it may be is checked by the settings themselves."""
    for name, field in kind.model_fields.items():
        if only is None or name in only:
            default = "" if field.default is None else f" ({field.default})"
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                metavar=name.upper(),
                default=None,
                help=f"{field.description}{default}".replace("%", "%%"),
            )


def _settings(options: argparse.Namespace) -> PredictSettings:
    given = {name: getattr(options, name, None) for name in PredictSettings.model_fields}
    values = {name: value for name, value in given.items() if value is not None}
    return checked_settings(PredictSettings, values)


def _run(events: "Generator[Any, None, Result]", on_event: Callable[[Any], None] | None = None) -> Result:
    """Work through a verb's events with a progress bar; interrupting closes it in good order."""
    from tqdm import tqdm

    with tqdm(unit="step", disable=None, leave=False) as bar:
        try:
            while True:
                try:
                    event = next(events)
                except StopIteration as end:
                    return typing.cast(Result, end.value)
                if hasattr(event, "total"):
                    bar.total = event.total
                    bar.update(event.done - bar.n)
                if on_event is not None:
                    on_event(event)
        finally:
            events.close()


# --- predict ----------------------------------------------------------------------------------------


def predict(options: argparse.Namespace) -> None:
    """``napari-dispr predict``."""
    settings = _settings(options)
    _check_folder(options.out)
    if options.labels is None and not options.image.is_dir():
        raise InputError(f"{options.image} comes without labels: give its segmentation after it.")
    from napari_dispr.library import load_model
    from napari_dispr.prediction import iter_predict, iter_predict_crops

    if options.labels is None:
        import numpy as np

        from napari_dispr.cells.folders import read_dataset

        for name in ("cells", "scale"):
            if getattr(options, name) is not None:
                raise InputError(f"The cells of a dataset folder are taken as they are: leave --{name} out.")
        files = read_dataset(options.image)
        model = load_model(settings.model)
        names = {label: file.name for label, file in enumerate(files, start=1)}
        if len(set(names.values())) < len(names):
            raise InputError(f"{options.image} has cells of one name in train and test: give one part of it.")
        crops = [file.crop(label) for label, file in enumerate(files, start=1)]
        size = settings.pixel_size or 1.0
        events = iter_predict_crops(
            crops,
            model,
            settings,
            image_to_world=np.diag([size, size, 1.0]),
            unit=model.card.unit if settings.pixel_size else "pixel",
            names=names,
        )
    else:
        events = iter_predict(
            read_picture(options.image),
            read_picture(options.labels),
            cells=_cells(options.cells),
            **settings.model_dump(),
        )
    prediction = _run_and_save(events, options.out)
    for warning in prediction.warnings:
        print(f"napari-dispr: {warning}", file=sys.stderr)
    print(f"{len(prediction)} cells, {prediction.members} members each: {options.out}")


def _run_and_save(events: "Generator[Any, None, Prediction]", out: Path) -> "Prediction":
    """Save each cell as soon as it is finished; the tables at the end, also when interrupted."""
    from napari_dispr.results import remove_prediction

    finished: list[Prediction] = []

    def keep(event: Any) -> None:
        if hasattr(event, "prediction"):
            if not finished:
                remove_prediction(out)
            event.prediction.save_cell(out, event.label)
            finished[:] = [event.prediction]

    try:
        prediction = _run(events, keep)
    except BaseException:
        if finished:
            finished[0].save_tables(out)
        raise
    prediction.save_tables(out)
    return prediction


def _cells(text: str | None) -> list[int] | None:
    if text is None or text.strip() == "all":
        return None
    try:
        return [int(label) for label in text.split(",")]
    except ValueError:
        raise InputError(f"--cells is {text!r}: give labels with commas between, as 3,7.") from None


def _check_folder(out: Path) -> None:
    """Before anything slow: can results be written there at all?"""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: give a folder to write to.")
    parent = next(p for p in (out, *out.absolute().parents) if p.exists())
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError:
        raise InputError(f"{parent} cannot be written to: give another folder.") from None


def read_picture(path: Path) -> "NDArray[Any]":
    """A picture or its labels from a file: TIFF, NPY, or what scikit-image reads.

    Raises
    ------
    InputError
        If there is no such file, or it cannot be read.
    """
    if not path.is_file():
        raise InputError(f"There is no file {path}: check the name.")
    try:
        if path.suffix.lower() in (".tif", ".tiff"):
            import tifffile

            return tifffile.imread(path)
        if path.suffix.lower() == ".npy":
            import numpy as np

            return np.load(path, allow_pickle=False)
        from skimage.io import imread

        return imread(path)
    except Exception as error:  # readers raise whatever a broken file makes them meet
        raise InputError(f"{path} cannot be read as a picture: save it as TIFF.") from error


# --- demo -------------------------------------------------------------------------------------------


def demo(options: argparse.Namespace) -> None:
    """``napari-dispr demo``."""
    settings = _settings(options)
    _check_folder(options.out)
    import numpy as np
    import tifffile

    from napari_dispr.cells.phantoms import simulate_field
    from napari_dispr.files import written_aside
    from napari_dispr.pictures import save_page
    from napari_dispr.prediction import iter_predict
    from napari_dispr.signed_distance import from_level

    field = simulate_field(cells=6, shape=(320, 320), seed=settings.seed)
    for name, picture in (("image", field.image), ("labels", field.labels)):
        with written_aside(options.out / f"{name}.tif") as aside:
            tifffile.imwrite(aside, picture, resolution=(1 / field.pixel_size,) * 2, metadata={"unit": "um"})
    to_world = np.diag([field.pixel_size, field.pixel_size, 1.0])
    prediction = _run_and_save(
        iter_predict(
            field.image,
            field.labels,
            image_to_world=to_world,
            unit="micrometer",
            # At the scale of the simulation, so that each shape can be set beside its truth.
            **settings.model_copy(update={"pixel_size": field.pixel_size, "scale": field.zoom}).model_dump(),
        ),
        options.out,
    )
    truths = {label: from_level(field.objects[label], 127.5, truncation=8.0) for label in prediction}
    title = "simulated red blood cells"
    save_page(options.out / "picture.png", prediction, field.image, field.labels, truths, title)
    from napari_dispr.results import measure_cells

    table = measure_cells(prediction)
    shown = ["label", "volume_mean", "volume_sd", "volume_low", "volume_high", "sphericity_mean", "ambiguity"]
    table = table[[column for column in shown if column in table]]
    print(table.round(2).to_string(index=False))
    print(f"Members, table and picture.png are in {options.out}; volumes in cubic micrometres.")


# --- evaluate ---------------------------------------------------------------------------------------


def evaluate(options: argparse.Namespace) -> None:
    """``napari-dispr evaluate``."""
    settings = _settings(options)
    _check_folder(options.out)
    from napari_dispr.cells.folders import read_dataset
    from napari_dispr.evaluation import FIT_METHODS, Method, iter_evaluate, summary_table

    methods: dict[str, Method] = {}
    for name in dict.fromkeys(options.methods.split(",")):
        if name == "model":
            from napari_dispr.library import load_model
            from napari_dispr.prediction import model_method

            model = load_model(settings.model)
            methods[model.name] = model_method(model, settings)
        elif name in FIT_METHODS:
            methods[name] = FIT_METHODS[name]
        else:
            raise InputError(f"There is no method {name!r}: choose among model, {', '.join(FIT_METHODS)}.")
    events = iter_evaluate(
        read_dataset(options.dataset, need_objects=True),
        methods,
        members=settings.members,
        seed=settings.seed,
        out=options.out,
        save_shapes=options.save_shapes,
    )
    print(summary_table(_run(events)))


# --- models -----------------------------------------------------------------------------------------


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("true", "1", "yes", "y"):
        return True
    if text.lower() in ("false", "0", "no", "n"):
        return False
    raise argparse.ArgumentTypeError("True or False")


#: Flags of the original code, with its spelling; what the checkpoint reveals need not be given.
_ORIGINAL_FLAGS: dict[str, tuple[Callable[[str], Any], str]] = {
    "name": (str, "the model's name (dispr)"),
    "num_heads": (int, "attention heads; the checkpoint does not tell (1 with the flags of DISPR's README)"),
    "num_head_channels": (int, "channels a head, instead of num_heads"),
    "use_new_attention_order": (_yes_or_no, "split q, k, v before the heads (False)"),
    "diffusion_steps": (int, "T (1000)"),
    "noise_schedule": (str, "linear or cosine (linear)"),
    "rescale_timesteps": (_yes_or_no, "feed t * 1000 / T (False)"),
    "sigma_small": (_yes_or_no, "the smaller fixed variance, where it is not learned (False)"),
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


def list_models(options: argparse.Namespace) -> None:
    """``napari-dispr models list``."""
    from napari_dispr.library import available_models, read_card

    for name, path in available_models().items():
        try:
            print(f"{name}: {read_card(path).description}")
        except InputError as error:
            print(f"{name}: {error}")


def model_info(options: argparse.Namespace) -> None:
    """``napari-dispr models info``."""
    from napari_dispr.library import read_card

    card = read_card(options.name)
    told = card.model_dump(mode="json")
    # What is read by programs alone is told by its size.
    told["intervals"] = {name: f"from {len(c.scores)} cells" for name, c in card.intervals.items()}
    told["familiarity"] = card.familiarity and f"from {card.familiarity.cells} cells"
    told["volume"] = card.volume and f"from {len(card.volume.cells)} cells"
    print(json.dumps(told, indent=2))


def import_model(options: argparse.Namespace) -> None:
    """``napari-dispr models import``."""
    from napari_dispr.library import user_folder

    out = options.out or user_folder() / f"{options.name or 'dispr'}.safetensors"
    if out.suffix != ".safetensors":
        raise InputError(f"{out} is no name for a model: let it end in .safetensors.")
    from napari_dispr.diffusion.original import import_dispr_checkpoint

    flags = {flag: getattr(options, flag) for flag in _ORIGINAL_FLAGS}
    given = {flag: value for flag, value in flags.items() if value is not None}
    model = import_dispr_checkpoint(options.checkpoint, **given)
    model.save(out)
    print(f"{model.name}: {out}")


if __name__ == "__main__":
    sys.exit(main())
