"""The house: which room may import which, what an import loads, how long modules are, what is promised.

The rules are read off the source (ast), so that an import inside a function counts too.
"""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points, requires, version
from pathlib import Path
from typing import NamedTuple

import npe2
import pytest

import napari_dispr

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "napari_dispr"
MODULES = sorted(SOURCE.rglob("*.py"))
LONGEST = 430  # "about 400 lines"

#: The floors of the house, lowest first. A room is a folder; the files at the root are the room "base". A
#: room may import the floors below it, and no other room of its own floor.
FLOORS = (
    {"base"},
    {"cells", "shapes", "diffusion"},
    {"models"},
    {"prediction"},
    {"training", "synthesis", "export", "viewer"},
    {"evaluation", "widgets"},
    {"commands"},
)
FLOOR = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
#: Packages that only these rooms may import, also inside a function. "viewer/opening" is one file.
QT = {"qtpy", "superqt", "pyqtgraph", "magicgui", "PyQt5", "PyQt6", "PySide2", "PySide6"}
ONLY_IN = {
    **{package: {"widgets", "viewer/opening"} for package in QT},
    "napari": {"widgets", "viewer"},
    "vispy": {"widgets", "viewer"},
    "torch": FLOOR.keys() - {"base", "cells", "shapes", "export", "viewer", "widgets"},
    "sklearn": {"evaluation"},
}
#: Rooms whose import loads no torch: what shows a window or parses a command line stays quick.
WITHOUT_TORCH = ("base", "cells", "shapes", "export", "viewer", "widgets", "commands")

#: Packages of an extra; where one is missing, a sentence names the extra to install.
EXTRAS = {"dask", "distributed", "gudhi", "pyarrow", "zarr"}


class Import(NamedTuple):
    """One import: of what (dotted), on which line, and whether it runs when the module is imported."""

    of: str
    line: int
    at_import: bool


def room_of(module: str) -> str:
    """The room of a module, given by its dotted name below the package."""
    first = module.split(".")[0]
    return first if first in FLOOR else "base"


def dotted(path: Path) -> str:
    """The name under which a module is imported."""
    name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


@cache
def imports(path: Path) -> list[Import]:
    """All imports of a module, but those for type checkers alone."""
    return list(_walk(ast.parse(path.read_text("utf-8")), path, at_import=True))


def _walk(node: ast.AST, path: Path, at_import: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(name.name, child.lineno, at_import) for name in child.names)
        elif isinstance(child, ast.ImportFrom):
            of = child.module or ""
            if child.level:
                package = dotted(path).split(".")
                package = package if path.name == "__init__.py" else package[:-1]
                of = ".".join([*package[: len(package) - child.level + 1], *filter(None, [of])])
            # "from package import module" imports the module.
            yield from (Import(f"{of}.{name.name}", child.lineno, at_import) for name in child.names)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from (found for other in child.orelse for found in _walk(other, path, at_import))
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _walk(child, path, at_import and not inside)


def below_package(module: str) -> str:
    """A dotted name without the package's own."""
    return module.partition(".")[2]


every_module = pytest.mark.parametrize("path", MODULES, ids=dotted)
#: The public API (`__init__`) and `__main__` stand above all floors.
ABOVE = {SOURCE / "__init__.py", SOURCE / "__main__.py"}


@pytest.mark.parametrize("path", [path for path in MODULES if path not in ABOVE], ids=dotted)
def test_nothing_imports_upwards(path: Path) -> None:
    room = room_of(below_package(dotted(path)))
    ours = {below_package(found.of) for found in imports(path) if found.of.startswith("napari_dispr.")}
    others = {name: room_of(name) for name in ours}
    assert not [name for name, other in others.items() if other != room and FLOOR[other] >= FLOOR[room]]


def test_modules_do_not_import_in_a_circle() -> None:
    names = {dotted(path) for path in MODULES} - {"napari_dispr"}
    graph = {
        dotted(path): names
        & {end for found in imports(path) for end in (found.of, found.of.rpartition(".")[0])}
        for path in MODULES
    }
    graph["napari_dispr.prediction.result"].discard("napari_dispr.prediction.saving")  # Prediction.save
    while leaves := [name for name, others in graph.items() if not others & graph.keys()]:
        for name in leaves:
            del graph[name]
    assert not graph, "these import one another"


@every_module
def test_packages_are_imported_in_their_rooms_only(path: Path) -> None:
    name = below_package(dotted(path))
    rooms = {room_of(name), name.replace(".", "/")}
    assert not [found for found in imports(path) if not rooms & ONLY_IN.get(found.of.split(".")[0], rooms)]


@every_module
def test_module_fits_one_sitting(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


@every_module
def test_module_says_what_it_is_for(path: Path) -> None:
    if path.name == "__init__.py" and not path.read_text("utf-8").strip():
        return
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def modules_loaded_by(code: str) -> set[str]:
    """The modules that a fresh Python has loaded after some code."""
    script = f"{code}\nimport sys; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split("\n")[-2].split())


def loaded_by(code: str) -> set[str]:
    """As `modules_loaded_by`, the top-level packages."""
    return {name.split(".")[0] for name in modules_loaded_by(code)}


def test_import_of_the_package_is_light() -> None:
    loaded = loaded_by("import napari_dispr; dir(napari_dispr)")
    assert "napari_dispr" in loaded
    assert not loaded & ({"torch", "napari", "numpy", "pandas", "vispy", "magicgui"} | QT)


@pytest.mark.parametrize("in_napari", [False, True])
def test_import_loads_no_torch(in_napari: bool) -> None:
    rooms = [room for room in WITHOUT_TORCH if (room in ("viewer", "widgets")) == in_napari]
    names = [dotted(path) for path in MODULES if room_of(below_package(dotted(path))) in rooms]
    loaded = loaded_by("import " + ", ".join(names))
    assert "torch" not in loaded
    assert in_napari or not loaded & (QT | {"napari"})


def test_windows_open_without_what_only_their_threads_need() -> None:
    windows = ("predict.widget", "compare.widget", "morphometry.widget", "train.widget", "synthesis.balance")
    slow = {"torch", "trimesh", "networkx", "scipy.stats", "scipy.signal", "scipy.interpolate"}
    loaded = modules_loaded_by("import " + ", ".join(f"napari_dispr.widgets.{name}" for name in windows))
    assert not loaded & slow


@pytest.mark.parametrize("name", napari_dispr.__all__)
def test_public_name_is_there(name: str) -> None:
    assert getattr(napari_dispr, name) is not None
    assert name in dir(napari_dispr)


@pytest.mark.parametrize("name", sorted({*napari_dispr.__all__} - {"__version__"}))
def test_public_name_is_in_the_reference(name: str) -> None:
    page = (ROOT / "docs" / "api.md").read_text("utf-8")
    assert f"::: {getattr(napari_dispr, name).__module__}.{name}\n" in page


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="attribute shape"):
        _ = napari_dispr.shape


def test_manifest_is_valid_and_its_commands_are_there() -> None:
    manifest = npe2.PluginManifest.from_file(SOURCE / "napari.yaml")
    assert manifest.name == "napari-dispr"
    manifest.validate_imports()
    commands = {command.id for command in manifest.contributions.commands or ()}
    assert commands
    assert {widget.command for widget in manifest.contributions.widgets or ()} <= commands


def test_installed_package_brings_its_manifest() -> None:
    (entry,) = entry_points(group="napari.manifest", name="napari-dispr")
    assert entry.value == "napari_dispr:napari.yaml"
    (command,) = entry_points(group="console_scripts", name="napari-dispr")
    assert callable(command.load())


def test_version_is_the_same_everywhere() -> None:
    assert version("napari-dispr") == napari_dispr.__version__
    assert f"## {napari_dispr.__version__} " in (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"version: {napari_dispr.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")


def requirements() -> set[str]:
    """Names of the packages that are declared as needed."""
    declared = [text for text in requires("napari-dispr") or () if "extra ==" not in text]
    return {re.match(r"[\w.-]+", text)[0].lower() for text in declared}  # type: ignore[index]


def test_dependencies_are_those_that_are_imported() -> None:
    stdlib = set(sys.stdlib_module_names) | {"napari_dispr"}
    imported = {found.of.split(".")[0] for path in MODULES for found in imports(path)} - stdlib - EXTRAS
    names = {"lazy_loader": "lazy-loader", "skimage": "scikit-image", "sklearn": "scikit-learn"}
    assert {names.get(name, name) for name in imported} == requirements()


def test_dependencies_have_a_reason_a_pin_and_no_qt() -> None:
    reasons = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    pins = (ROOT / "constraints.txt").read_text("utf-8").lower()
    for name in requirements():
        assert f"\n| {name} |" in reasons
        assert f"\n{name}==" in pins
    assert not requirements() & {"pyqt5", "pyqt6", "pyside2", "pyside6"}


def test_nothing_but_ranges_in_the_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert not [text for text in project["dependencies"] if "==" in text or "<" in text]
    assert {"qt", "all", "test", "docs"} <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("name", ["demo", "test"])
def test_commands_of_readme_are_one_line_with_the_pins(name: str) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    (command,) = re.findall(rf"^<!-- command: {name} -->\n```sh\n(.*)\n```$", readme, re.MULTILINE)
    assert "-c constraints.txt" in command
