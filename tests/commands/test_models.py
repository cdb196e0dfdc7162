"""``napari-dispr models`` as a user runs it: list, info, import, export, remove."""

import json

import pytest
import tifffile
import torch
from support.dispr_reference import DEFAULT_FLAGS, original_shapes, weights
from support.models import tiny_model

import napari_dispr as nd
from napari_dispr.commands.cli import main
from napari_dispr.models.library import available_fits, read_card, user_folder
from napari_dispr.synthesis.phantoms import simulate_field


def listed(capsys) -> list[str]:
    """The lines of ``models list``, of models that are files."""
    assert main(["models", "list"]) == 0
    return [line for line in capsys.readouterr().out.splitlines() if "  fit  " not in line]


def refused(capsys, *arguments) -> str:
    """The one line of the error message."""
    assert main(["models", *map(str, arguments)]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    return printed.err


@pytest.fixture
def colleagues(tmp_path):
    """A colleague's model file."""
    tiny_model(name="nuclei", description="of a colleague", licence="CC BY 4.0").save(
        tmp_path / "from Ann.safetensors"
    )
    return tmp_path / "from Ann.safetensors"


def test_list_says_whose_and_what_is_broken(colleagues, capsys):
    assert main(["models", "import", str(colleagues)]) == 0
    (user_folder() / "broken.safetensors").write_bytes(b"not whole")
    capsys.readouterr()
    generic, cells, broken, nuclei = listed(capsys)
    assert generic.split()[:2] == ["generic", "shipped"] and "MB  Nuclei and cells" in generic
    assert cells.startswith("red-blood-cell  shipped") and read_card("red-blood-cell").description in cells
    assert broken.split()[:2] == ["broken", "yours"] and "is not a shape model" in broken
    size = f"{(user_folder() / 'nuclei.safetensors').stat().st_size / 1e6:.1f}"
    assert nuclei.split() == ["nuclei", "yours", size, "MB", "of", "a", "colleague"]


def test_info_for_people(capsys):
    assert main(["models", "info", "red-blood-cell"]) == 0
    name, *lines = capsys.readouterr().out.splitlines()
    printed = dict(line.split(maxsplit=1) for line in lines if " " in line.strip())
    model = nd.load_model("red-blood-cell")
    assert name == "red-blood-cell"
    assert printed["hash"] == model.hash
    assert printed["licence"] == "BSD-3-Clause" and printed["attribution"] == model.card.attribution
    assert printed["file"].endswith("red-blood-cell.safetensors (shipped with napari-dispr)")
    assert 1 < float(printed["size"].removesuffix(" MB")) < 28
    assert printed["qualities"] == "fast (1 evaluation, euler), balanced (2 evaluations, euler)"
    assert printed["novelty"] == "from 228 cells"
    assert len(lines) < 50 and max(map(len, lines)) < 500 and not set("{}[]") & set("".join(lines))


def test_info_for_programs(colleagues, capsys):
    assert main(["models", "info", "red-blood-cell", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["name"] == "red-blood-cell" and printed["novelty"] == "from 228 cells"
    assert printed["hash"] == nd.load_model("red-blood-cell").hash and printed["file"]["shipped"]
    assert main(["models", "info", str(colleagues), "--json"]) == 0
    file = json.loads(capsys.readouterr().out)["file"]
    assert file["path"] == str(colleagues) and file["size"] == colleagues.stat().st_size
    assert not file["shipped"]


def test_fits_are_listed_and_described(capsys):
    assert main(["models", "list"]) == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if "  fit  " in line]
    assert [line.split()[0] for line in printed] == list(available_fits())
    assert main(["models", "info", "ellipsoid"]) == 0
    assert "ellipsoid about the fitted ellipse" in capsys.readouterr().out
    assert main(["models", "info", "ellipsoid", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rival"] == "fit"
    assert "is a fit, which is built in" in refused(capsys, "export", "ellipsoid", "--out", "x.safetensors")


def test_model_goes_from_one_user_to_another(colleagues, tmp_path, capsys):
    assert main(["models", "import", str(colleagues), "--name", "Ann's"]) == 2
    assert main(["models", "import", str(colleagues), "--name", "nuclei of Ann"]) == 0
    assert nd.load_model("nuclei of Ann").name == "nuclei of Ann"
    assert main(["models", "export", "nuclei of Ann", "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    assert main(["models", "remove", "nuclei of Ann"]) == 0
    assert "is removed" in capsys.readouterr().out
    assert len(listed(capsys)) == 2
    exported = tmp_path / "nuclei of Ann.safetensors"
    assert main(["models", "import", str(exported)]) == 0
    assert capsys.readouterr().out == f"nuclei of Ann: {user_folder() / exported.name}\n"
    assert main(["models", "import", str(exported)]) == 0
    assert "nuclei of Ann was there already" in capsys.readouterr().out


def test_wrong_input_is_one_line(colleagues, tmp_path, capsys):
    (tmp_path / "words.safetensors").write_text("no model")
    assert "is not a shape model" in refused(capsys, "import", tmp_path / "words.safetensors")
    assert "There is no file" in refused(capsys, "import", tmp_path / "none.safetensors")
    assert "cannot be a model's name" in refused(capsys, "import", colleagues, "--name", "../x")
    assert '--name "generic-2"' in refused(capsys, "import", colleagues, "--name", "generic")
    assert "leave --num-heads out" in refused(capsys, "import", colleagues, "--num_heads", "1")
    assert "leave --out out" in refused(capsys, "import", colleagues, "--out", tmp_path / "a.safetensors")
    assert "already" in refused(capsys, "export", "generic", "--out", colleagues)
    assert "already exists" in refused(capsys, "import", tmp_path / "x.pt", "--out", colleagues)
    assert "comes with napari-dispr" in refused(capsys, "remove", "generic")
    assert "There is no model 'x'" in refused(capsys, "info", "x")
    assert not user_folder().exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["from Ann.safetensors", "words.safetensors"]


# --- checkpoints of the original ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """An original checkpoint of a small network."""
    flags = {**DEFAULT_FLAGS, "channel_mult": "1,1,1,1", "attention_resolutions": ""}
    path = tmp_path_factory.mktemp("original") / "emasavedmodel_0.9999_085000.pt"
    torch.save(weights(original_shapes(flags)), path)
    return path


def test_import_takes_the_original_flags(checkpoint, tmp_path, capsys):
    out = tmp_path / "m.safetensors"
    command = ["models", "import", str(checkpoint), "--out", str(out)]
    flags = [
        "--num_heads",
        "2",
        "--num-channels",
        "32",
        "--use_scale_shift_norm",
        "False",
        "--channel_mult",
        "1,1,1,1",
    ]
    assert (
        main([*command, *flags, "--rescale_timesteps", "True", "--diffusion_steps", "500", "--name", "mine"])
        == 0
    )
    model = nd.load_model(out)
    assert model.name == "mine" and model.network.config.num_heads == 2
    assert model.process.steps == 500 and model.process.rescale_timesteps
    expected = nd.import_dispr_checkpoint(
        checkpoint, num_heads=2, rescale_timesteps=True, diffusion_steps=500
    )
    assert model.hash == expected.hash


def test_import_without_out_adds_to_the_users_models(checkpoint, capsys):
    assert main(["models", "import", str(checkpoint), "--num-heads", "1", "--name", "mine"]) == 0
    assert nd.load_model("mine").name == "mine"
    capsys.readouterr()
    assert [line.split()[0] for line in listed(capsys)] == ["generic", "red-blood-cell", "mine"]
    assert main(["models", "import", str(checkpoint), "--num-heads", "1", "--name", "mine"]) == 0
    assert "mine was there already" in capsys.readouterr().out
    assert main(["models", "import", str(checkpoint), "--num-heads", "2", "--name", "mine"]) == 2
    assert '--name "mine-2"' in capsys.readouterr().err
    assert nd.load_model("mine").network.config.num_heads == 1


@pytest.mark.slow
def test_imported_model_predicts(checkpoint, tmp_path):
    field = simulate_field(cells=3, shape=(200, 200), seed=2)
    files = [str(tmp_path / "image.tif"), str(tmp_path / "labels.tif")]
    for path, picture in zip(files, (field.image, field.labels), strict=True):
        tifffile.imwrite(path, picture)
    command = ["models", "import", str(checkpoint), "--num-heads", "1"]
    assert main([*command, "--out", str(tmp_path / "m.safetensors")]) == 0
    command = ["predict", *files, "--out", str(tmp_path / "out")]
    command += ["--model", str(tmp_path / "m.safetensors"), "--cells", "2", "--members", "1"]
    assert main([*command, "--sampler", "ddpm", "--steps", "1"]) == 0
    prediction = nd.load_prediction(tmp_path / "out")
    assert prediction[2].members.shape == (1, 64, 64, 64)
    assert prediction.provenance["settings"]["sampler"] == "ddpm"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "num_heads"),
        (["--num-heads", "1", "--num-channels", "64"], "num_channels"),
        (["--num-heads", "3"], "num_heads"),
        (["--num-heads", "1", "--learn-sigma", "perhaps"], "True or False"),
        (["--num-heads", "1", "--out", "model.pt"], ".safetensors"),
        (["--num-heads", "1", "--name", "../x"], "'../x' cannot be a model's name"),
        (["--num-heads", "1", "--name", "generic"], '--name "generic-2"'),
    ],
)
def test_import_says_in_one_line_what_is_missing(checkpoint, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.chdir(tmp_path)
    assert main(["models", "import", str(checkpoint), *flags]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and words in error
    assert not list(tmp_path.iterdir())
