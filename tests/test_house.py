"""The house: who may import whom, what an import loads, how long a module is, what the package promises.

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

BASE = {"card", "errors", "events", "files", "grid", "settings", "signed_distance"}
PARTS = {"cells", "diffusion", "rivals", "shapes"}
VERBS = {
    "balancing",
    "classification",
    "cross_validation",
    "evaluation",
    "prediction",
    "ranking",
    "redrawing",
    "replaying",
    "training",
}
#: What each part of the house may import of the others. A part is a folder or a module at the root.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    **{part: {"errors"} for part in BASE - {"errors"}},
    **dict.fromkeys(PARTS, BASE),
    "checkpoints": BASE,  # of torch, below the two that train networks
    **dict.fromkeys(("diffusion", "rivals"), BASE | {"checkpoints"}),
    "library": BASE | {"diffusion", "rivals"},
    "tables": BASE | {"shapes"},
    "saving": BASE | {"shapes", "tables"},
    "results": BASE | {"saving", "shapes", "tables"},
    "opinion": BASE | {"cells", "results", "shapes"},
    "pictures": BASE | {"cells", "results", "shapes"},
    "drawing": BASE | PARTS | {"opinion", "results"},
    "rival_prediction": BASE | {"cells", "drawing", "opinion", "results", "shapes"},
    "prediction": BASE | PARTS | {"drawing", "library", "opinion", "results", "rival_prediction"},
    "redrawing": BASE | PARTS | {"drawing", "library", "opinion", "results"},
    "replaying": BASE | PARTS | {"drawing", "opinion", "redrawing", "results"},
    "runs": BASE,
    "planning": BASE | {"library", "runs"},
    "training_samples": BASE | PARTS,
    "optimisation": BASE | PARTS | {"training_samples"},
    "rival_training": BASE | PARTS | {"optimisation"},
    "validation": BASE | PARTS | {"library", "pictures", "prediction"},
    "trained_model": BASE | PARTS | {"runs", "validation"},
    "training": BASE
    | PARTS
    | {"library", "optimisation", "planning", "rival_training", "runs", "trained_model", "validation"},
    "markdown": set(),
    "comparison": BASE | {"shapes"},
    "evaluation_rows": BASE | {"shapes"},
    "evaluation_summary": BASE | {"comparison", "evaluation_rows", "shapes"},
    "evaluation_report": BASE | {"evaluation_rows", "markdown", "shapes"},
    "evaluation": BASE
    | PARTS
    | {
        "evaluation_report",
        "evaluation_rows",
        "evaluation_summary",
        "library",
        "prediction",
        "results",
    },
    "methods": BASE | PARTS | {"evaluation", "library", "prediction"},
    "cross_validation": BASE
    | PARTS
    | {"evaluation", "evaluation_rows", "library", "methods", "planning", "runs", "training"},
    "napari_io": BASE | VERBS | {"cells", "library", "results", "shapes"},
    # widgets.layers is where layers are built, also those of a reader; it knows no Qt.
    "napari_files": BASE | {"results", "shapes", "widgets"},
    "export": BASE | {"results", "shapes"},
    "repeat": BASE | {"results"},
    "shape_features": BASE | {"cells", "shapes"},
    "forest_scores": set(),
    "classification_report": BASE | {"forest_scores", "results"},
    "classification": BASE
    | {"cells", "classification_report", "evaluation_rows", "forest_scores", "shape_features", "shapes"},
    "balance_plan": BASE | {"cells"},
    "balancing": BASE | PARTS | {"balance_plan", "library", "prediction", "results"},
    "ranking_report": BASE | {"results"},
    "ranking": BASE | {"cells", "evaluation_rows", "ranking_report", "results", "shape_features", "shapes"},
    "report_pictures": BASE | {"cells", "results", "shapes"},
    "reporting": BASE | {"pictures", "repeat", "report_pictures", "results", "shapes"},
    # cells: what is wrong with the inputs stands beside them before a verb runs.
    "widgets": BASE
    | VERBS
    | {
        "balance_plan",
        "cells",
        "export",
        "library",
        "pictures",
        "planning",
        "reporting",
        "results",
        "runs",
        "shapes",
    },
    # The demo's field is simulated by cells, original checkpoints are read by diffusion: neither is a verb.
    "commands": BASE
    | VERBS
    | {
        "balance_plan",
        "cells",
        "classification_report",
        "diffusion",
        "evaluation_summary",
        "export",
        "library",
        "methods",
        "pictures",
        "reporting",
        "planning",
        "ranking_report",
        "results",
        "runs",
        "shapes",
    },
    "cli": BASE | {"commands"},
    "__main__": {"cli"},
}
#: Packages that only these parts may import, anywhere in a module.
ONLY_IN: dict[str, set[str]] = {
    "sklearn": {"classification"},
    "torch": PARTS - {"shapes"}
    | VERBS
    | {
        "checkpoints",
        "drawing",
        "library",
        "optimisation",
        "rival_training",
        "trained_model",
        "training_samples",
        "validation",
    },
    "vispy": {"widgets"},
    "napari": {"napari_files", "napari_io", "widgets"},
    "qtpy": {"widgets"},
    "superqt": {"widgets"},
    "pyqtgraph": {"widgets"},
    "magicgui": {"widgets"},
    # A binding itself nowhere: qtpy stands between.
    **{binding: set() for binding in ("PyQt5", "PyQt6", "PySide2", "PySide6")},
}


#: Packages of an extra: who needs one and has it not is told so.
EXTRAS = {"gudhi", "zarr"}


class Import(NamedTuple):
    """One import: of what (dotted), on which line, and whether it runs when the module is imported."""

    of: str
    line: int
    at_import: bool


def part_of(path: Path) -> str:
    """The part of the house that a module belongs to."""
    first = path.relative_to(SOURCE).parts[0]
    return first.removesuffix(".py")


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


def ours(found: Import) -> str | None:
    """The part of the house that an import is of, None when it is of another package."""
    package, _, rest = found.of.partition(".")
    part = rest.split(".")[0]
    return part if package == "napari_dispr" and part in MAY_IMPORT else None


every_module = pytest.mark.parametrize("path", MODULES, ids=dotted)
#: The root's __init__, the public API, belongs to no part and may name everything.
every_module_of_a_part = pytest.mark.parametrize(
    "path", [path for path in MODULES if path != SOURCE / "__init__.py"], ids=dotted
)


def test_every_part_has_its_rule() -> None:
    parts = {part_of(path) for path in MODULES} - {"__init__"}
    assert parts <= MAY_IMPORT.keys(), "a new part of the house needs a line in MAY_IMPORT"


@every_module_of_a_part
def test_imports_of_the_house(path: Path) -> None:
    part = part_of(path)
    allowed = MAY_IMPORT[part] | {part}
    wrong = [found for found in imports(path) if (other := ours(found)) and other not in allowed]
    assert not wrong, f"{dotted(path)} may import {sorted(allowed)} only"


@every_module
def test_imports_of_packages(path: Path) -> None:
    wrong = [
        found
        for found in imports(path)
        if part_of(path) not in ONLY_IN.get(found.of.split(".")[0], {part_of(path)})
    ]
    assert not wrong


def test_verbs_do_not_import_in_a_circle() -> None:
    graph = {part: {ours(found) for path in MODULES if part_of(path) == part for found in imports(path)}
             - {None, part} for part in MAY_IMPORT}  # fmt: skip
    while leaves := [part for part, others in graph.items() if not others & graph.keys()]:
        for part in leaves:
            del graph[part]
    assert not graph, "these import one another"


def test_generative_model_reads_no_pictures() -> None:
    readers = {"tifffile", "imageio", "PIL", "skimage"}
    wrong = [
        (dotted(path), found)
        for path in MODULES
        if part_of(path) == "diffusion"
        for found in imports(path)
        if found.of.split(".")[0] in readers
    ]
    assert not wrong


@every_module
def test_module_fits_one_sitting(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= LONGEST


@every_module
def test_module_says_what_it_is_for(path: Path) -> None:
    if path.name == "__init__.py" and not path.read_text("utf-8").strip():
        return
    assert ast.get_docstring(ast.parse(path.read_text("utf-8")))


def loaded_by(code: str) -> set[str]:
    """The top-level packages that a fresh Python has loaded after some code."""
    script = f"{code}\nimport sys; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split("\n")[-2].split())


QT = {"qtpy", "PyQt5", "PyQt6", "PySide2", "PySide6", "superqt"}


def test_import_of_the_package_is_light() -> None:
    loaded = loaded_by("import napari_dispr; dir(napari_dispr)")
    assert "napari_dispr" in loaded
    assert not loaded & ({"torch", "napari", "numpy", "pandas", "vispy", "magicgui"} | QT)


WITHOUT_TORCH = BASE | {"shapes", "results", "library", "napari_io", "widgets", "commands", "cli"}
WITHOUT_TORCH |= {"comparison", "evaluation_report", "evaluation_summary", "markdown"}
WITHOUT_TORCH |= {"export", "napari_files", "repeat", "reporting", "tables"}
WITHOUT_TORCH |= {"balance_plan", "classification", "forest_scores", "ranking", "shape_features"}


@pytest.mark.parametrize("part", sorted(WITHOUT_TORCH & {part_of(path) for path in MODULES}))
def test_import_loads_no_torch(part: str) -> None:
    names = [dotted(path) for path in MODULES if part_of(path) == part]
    loaded = loaded_by("import " + ", ".join(names))
    assert "torch" not in loaded
    if part != "widgets":
        assert not loaded & (QT | {"napari"})


@pytest.mark.parametrize("name", napari_dispr.__all__)
def test_public_name_is_there(name: str) -> None:
    assert getattr(napari_dispr, name) is not None
    assert name in dir(napari_dispr)


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'shape'"):
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
    names = {"skimage": "scikit-image", "sklearn": "scikit-learn"}
    assert {names.get(name, name) for name in imported} == requirements()


def test_dependencies_have_a_reason_a_pin_and_no_qt() -> None:
    reasons = (ROOT / "docs" / "dependencies.md").read_text("utf-8")
    pins = (ROOT / "constraints.txt").read_text("utf-8").lower()
    for name in requirements():
        assert f"\n| {name} |" in reasons
        assert f"\n{name}==" in pins
    assert not requirements() & {name.lower() for name in QT - {"qtpy", "superqt"}}


def test_nothing_but_ranges_in_the_metadata() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert not [text for text in project["dependencies"] if "==" in text or "<" in text]
    assert {"qt", "all", "test", "docs"} <= project["optional-dependencies"].keys()


@pytest.mark.parametrize("name", ["demo", "test"])
def test_commands_of_readme_are_one_line_with_the_pins(name: str) -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    (command,) = re.findall(rf"^<!-- command: {name} -->\n```sh\n(.*)\n```$", readme, re.MULTILINE)
    assert "-c constraints.txt" in command
