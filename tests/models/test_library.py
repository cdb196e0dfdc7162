"""The library: shipped models, the user's own, models by path, and cards that are read without weights."""

import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file
from support.models import tiny_model

from napari_dispr import InputError, load_model
from napari_dispr.diffusion.model import ShapeModel
from napari_dispr.models.library import (
    available_models,
    check_name,
    export_model,
    import_model,
    is_shipped,
    model_path,
    read_card,
    remove_model,
    user_folder,
)


def test_shipped_model_is_listed_and_small_enough():
    models = available_models()
    assert "red-blood-cell" in models
    for path in models.values():
        assert path.stat().st_size < 28_000_000


def test_card_of_the_shipped_model():
    card = read_card("red-blood-cell")
    assert card.name == "red-blood-cell"
    assert card.licence and "Simionato" in card.attribution
    assert {"fast", "balanced"} <= card.qualities.keys()
    assert "paper" not in card.qualities
    assert card.qualities["fast"].steps <= 2
    assert card.typical_extent == pytest.approx(50, abs=10)
    # A score is never of cells that the model which it is of was trained on.
    assert card.scores["cells"] and not set(card.scores["cells"]) & set(card.scores["trained_on"])
    assert len(card.training["fingerprints"]) == len(card.training["cells"])


def test_shipped_model_loads():
    model = load_model("red-blood-cell")
    assert model.name == "red-blood-cell"
    assert sum(p.numel() for p in model.network.parameters()) <= 8_000_000
    assert all(torch.isfinite(p).all() for p in model.network.parameters())
    assert model.card == read_card("red-blood-cell")
    assert model.hash == load_model("red-blood-cell").hash


def test_model_by_path(tmp_path):
    path = tmp_path / "mine.safetensors"
    tiny_model(description="mine").save(path)
    assert load_model(path).hash == load_model(str(path)).hash == tiny_model().hash
    assert read_card(path).description == "mine"
    assert model_path(path) == path


def test_users_own_models_come_after_the_shipped_ones():
    user_folder().mkdir(parents=True)
    tiny_model(name="mine").save(user_folder() / "mine.safetensors")
    tiny_model().save(user_folder() / "red-blood-cell.safetensors")
    assert list(available_models()) == ["generic", "red-blood-cell", "mine"]
    assert load_model("mine").name == "mine"
    assert load_model("red-blood-cell").name == "red-blood-cell"


def test_listing_needs_no_torch():
    code = (
        "import sys; from napari_dispr.models.library import available_models, read_card;"
        "[read_card(name) for name in available_models()]; print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


@pytest.mark.parametrize("name", ["white-blood-cell", "", "../red-blood-cell", "no/such.safetensors"])
@pytest.mark.parametrize("read", [load_model, read_card])
def test_unknown_model(name, read):
    with pytest.raises(InputError, match=r"There is no model .*red-blood-cell"):
        read(name)


@pytest.mark.parametrize(
    "content",
    [b"", b"short", b"\xff" * 50, b"\x05\0\0\0\0\0\0\0[1,2]", b"\x02\0\0\0\0\0\0\0{}",
     b"\x01\0\0\0\0\0\0\0\xff", b'\x13\0\0\0\0\0\0\0{"__metadata__":{}} ',
     b'\x15\0\0\0\0\0\0\0{"__metadata__":null}',
     pytest.param(b"\x80\x84\x1e\0\0\0\0\0" + b"[" * 2_000_000, id="nested")],
)  # fmt: skip
@pytest.mark.parametrize("read", [load_model, read_card])
def test_file_that_is_no_model(tmp_path, content, read):
    path = tmp_path / "m.safetensors"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"m\.safetensors is not a shape model") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_folder_is_no_model(tmp_path):
    with pytest.raises(InputError):
        load_model(tmp_path)


def test_original_checkpoint_is_to_be_imported_first(tmp_path):
    torch.save({"a": torch.zeros(2)}, tmp_path / "savedmodel085000.pt")
    with pytest.raises(InputError, match="import an original checkpoint first"):
        load_model(tmp_path / "savedmodel085000.pt")


# --- the user's own models ------------------------------------------------------------------------------


def test_what_is_being_written_is_no_model_yet():
    user_folder().mkdir(parents=True)
    (user_folder() / "folder.safetensors").mkdir()
    for name in ("mine.safetensors", ".a1b2c3d4.mine.safetensors"):
        tiny_model(name="mine").save(user_folder() / name)
    assert list(available_models()) == ["generic", "red-blood-cell", "mine"]


@pytest.fixture
def colleagues(tmp_path):
    """A model file under another name than its model's."""
    tiny_model(name="nuclei", description="of a colleague", limits="Kerne, größer als 5 µm").save(
        tmp_path / "from Ann.safetensors"
    )
    return tmp_path / "from Ann.safetensors"


def test_imported_model_is_one_of_the_users(colleagues):
    name, path, new = import_model(colleagues)
    assert (name, path, new) == ("nuclei", user_folder() / "nuclei.safetensors", True)
    assert path.read_bytes() == colleagues.read_bytes()
    assert load_model("nuclei").hash == ShapeModel.load(colleagues).hash
    assert os.listdir(user_folder()) == ["nuclei.safetensors"]
    assert import_model(colleagues) == (name, path, False)
    assert import_model(path) == (name, path, False)


def test_imported_model_may_take_another_name(colleagues):
    name, path, _ = import_model(colleagues, " nuclei of Ann.v2 ")
    assert name == "nuclei of Ann.v2" and path.name == "nuclei of Ann.v2.safetensors"
    before, after = ShapeModel.load(colleagues), load_model(name)
    assert after.card == before.card.model_copy(update={"name": name})
    assert after.hash == before.hash
    assert all(
        torch.equal(*both)
        for both in zip(before.network.parameters(), after.network.parameters(), strict=True)
    )
    # The same content under its new name, from either file.
    assert not import_model(colleagues, name).new
    assert not import_model(path).new


def test_other_model_of_the_same_name(colleagues, tmp_path):
    import_model(colleagues)
    tiny_model(name="Nuclei", description="another").save(tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r'another model called .Nuclei.* --name "Nuclei-2"'):
        import_model(tmp_path / "other.safetensors")
    assert read_card("nuclei").description == "of a colleague"
    assert import_model(tmp_path / "other.safetensors", numbered=True).name == "Nuclei-2"
    again = import_model(tmp_path / "other.safetensors", numbered=True)
    assert (again.name, again.new) == ("Nuclei-2", False)
    assert list(available_models())[2:] == ["Nuclei-2", "nuclei"]
    assert read_card("Nuclei-2").name == "Nuclei-2"


def test_name_of_a_shipped_model_is_not_free(colleagues):
    for name in ("generic", "Red-Blood-Cell"):
        with pytest.raises(InputError, match="--name"):
            import_model(colleagues, name)
    name, path, new = import_model(model_path("generic"))
    assert name == "generic" and is_shipped(path) and not new


def test_number_after_the_longest_name(colleagues):
    user_folder().mkdir(parents=True)
    long = "n" * 64
    tiny_model(name=long).save(user_folder() / f"{long}.safetensors")
    assert import_model(colleagues, long, numbered=True).name == "n" * 62 + "-2"


def test_broken_file_of_the_users_is_not_replaced(colleagues):
    user_folder().mkdir(parents=True)
    (user_folder() / "nuclei.safetensors").write_bytes(b"broken")
    with pytest.raises(InputError, match="another model called 'nuclei'"):
        import_model(colleagues)
    assert remove_model("nuclei").name == "nuclei.safetensors"
    assert import_model(colleagues).new


@pytest.mark.parametrize("load", [True, False])
def test_wrong_file_is_not_imported(colleagues, tmp_path, load):
    whole = colleagues.read_bytes()
    colleagues.write_bytes(whole[:-1])
    with pytest.raises(InputError, match=r"from Ann\.safetensors is not a shape model .* not cut off"):
        import_model(colleagues, load=load)
    save_file({"weight": torch.zeros(3)}, tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"other\.safetensors is not a shape model"):
        import_model(tmp_path / "other.safetensors", load=load)
    for path in (tmp_path, tmp_path / "no.safetensors", "generic"):
        with pytest.raises(InputError, match="There is no file"):
            import_model(path, load=load)
    assert not user_folder().exists()


def test_model_that_does_not_load_is_not_imported(colleagues):
    card = ShapeModel.load(colleagues).card.model_dump_json()
    save_file({"weight": torch.zeros(3)}, colleagues, {"card": card, "network": "{}", "process": "{}"})
    with pytest.raises(InputError, match="not a shape model"):
        import_model(colleagues)
    assert not user_folder().exists()


@pytest.mark.parametrize("name", ["a", "Zellen 2", "größer", "v1.2_b-c", "a" * 64, "com10", "_x"])
def test_good_names(name):
    assert check_name(f" {name}.safetensors") == name


@pytest.mark.parametrize(
    "name",
    ["", " ", "../x", "a/b", "a\\b", ".hidden", "dot.", "a" * 65, "nul", "COM1", "con.v2", "a\nb", "a:b",
     "-x", "what?", ".safetensors", "a\0"],
)  # fmt: skip
def test_names_that_no_file_could_have_everywhere(colleagues, name):
    with pytest.raises(InputError, match="cannot be a model's name") as caught:
        check_name(name)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError):
        import_model(colleagues, name)
    assert not user_folder().exists()


def test_hostile_card_does_not_leave_the_folder(tmp_path):
    tiny_model(name="../../outside").save(tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="cannot be a model's name"):
        import_model(tmp_path / "m.safetensors", numbered=True)


def test_export_and_import_give_the_same_model(colleagues, tmp_path):
    import_model(colleagues, "mine")
    path = export_model("mine", tmp_path)
    assert path == tmp_path / "mine.safetensors"
    assert read_card(path).name == "mine"
    before = load_model("mine").hash
    remove_model("mine")
    assert import_model(path) == ("mine", user_folder() / "mine.safetensors", True)
    assert load_model("mine").hash == before


def test_exported_card_has_the_name_that_the_model_goes_by(colleagues, tmp_path):
    user_folder().mkdir(parents=True)
    (user_folder() / "renamed.safetensors").write_bytes(colleagues.read_bytes())
    path = export_model("renamed", tmp_path / "new" / "file.safetensors")
    assert path == tmp_path / "new" / "file.safetensors"
    assert ShapeModel.load(path).name == "renamed"
    assert read_card(export_model("generic", tmp_path)) == read_card("generic")
    assert export_model(colleagues, tmp_path).name == "nuclei.safetensors"


def test_export_replaces_nothing(colleagues, tmp_path):
    before = colleagues.read_bytes()
    with pytest.raises(InputError, match=r"There is a file .*from Ann\.safetensors already"):
        export_model("generic", colleagues)
    assert colleagues.read_bytes() == before
    with pytest.raises(InputError, match=r"end in \.safetensors"):
        export_model("generic", tmp_path / "model.pt")
    with pytest.raises(InputError, match="There is no model 'gone'"):
        export_model("gone", tmp_path)


def test_only_the_users_own_models_are_removed(colleagues):
    path = import_model(colleagues).path
    with pytest.raises(InputError, match="comes with napari-dispr"):
        remove_model("generic")
    for name in ("gone", str(model_path("generic")), "../models/nuclei"):
        with pytest.raises(InputError, match=r"to remove: yours are nuclei\."):
            remove_model(name)
    assert remove_model("nuclei") == path and not path.exists()
    with pytest.raises(InputError, match="you have none"):
        remove_model("nuclei")
    assert model_path("generic").exists()


def test_import_without_loading_needs_no_torch(colleagues):
    code = (
        "import sys, napari_dispr as nd; from napari_dispr.models.library import import_model;"
        f"import_model({str(colleagues)!r}, load=False); import_model({str(colleagues)!r}, 'b', load=False);"
        "nd.export_model('b', sys.argv[1]); nd.remove_model('b'); print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, str(colleagues.parent)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
    assert list(available_models()) == ["generic", "red-blood-cell", "nuclei"]
