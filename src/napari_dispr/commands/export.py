"""``napari-dispr export``: the shapes of a saved prediction as surface meshes."""

import argparse
from pathlib import Path
from typing import Any

from napari_dispr.commands import common
from napari_dispr.errors import counted


def add(commands: Any) -> None:
    command = common.add_command(
        commands, "export", export, "write the shapes of a prediction as surface meshes"
    )
    command.add_argument("folder", type=Path, help="folder of a saved prediction")
    command.add_argument("--out", type=Path, required=True, help="folder for the meshes")
    command.add_argument("--format", default="stl", help="stl, ply, obj or glb (%(default)s)")
    command.add_argument("--cells", help="labels of the cells, such as 3,7 (all)")
    command.add_argument(
        "--members", help=f"numbers of the members, {common.FROM_0}, such as 0,2; or none (all)"
    )
    command.add_argument("--no-consensus", action="store_true", help="write no mesh of the consensus")


def export(options: argparse.Namespace) -> None:
    common.check_folder(options.out, "meshes.json")
    from napari_dispr.export.meshes import export_meshes
    from napari_dispr.prediction.saving import load_prediction

    prediction = load_prediction(options.folder)
    with common.progress_bar("mesh") as show:
        paths = export_meshes(
            prediction,
            options.out,
            options.format,
            cells=common.whole_numbers("--cells", options.cells),
            members=[] if options.members == "none" else common.whole_numbers("--members", options.members),
            consensus=not options.no_consensus,
            progress=show,
        )
    print(f"{counted(len(paths), 'mesh')}, in {prediction.unit}: {options.out}")
