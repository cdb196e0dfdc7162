"""Write meshes as STL, PLY, OBJ or GLB, and make meshes of 3D labels.

In files vertices are (x, y, z) in the unit of the world, as other programs expect. In this package they are
(z, y, x).
"""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.grid import check_spacing
from napari_dispr.labels import cell_boxes, whole_numbers
from napari_dispr.shapes.meshes import surface_mesh

if TYPE_CHECKING:
    import trimesh

#: Formats of mesh files, as endings of file names.
FORMATS = ("stl", "ply", "obj", "glb")


def mesh_format(name: str) -> str:
    """The format with this name, as one of `FORMATS`."""
    plain = name.lower().lstrip(".")
    if plain not in FORMATS:
        raise InputError(f"Meshes cannot be written as {name!r}: choose one of {', '.join(FORMATS)}.")
    return plain


def write_mesh(path: str | os.PathLike[str], meshes: "Mapping[str, trimesh.Trimesh]", note: str = "") -> None:
    """Write meshes, with vertices (z, y, x) in world coordinates, into one file; ``note`` goes into its
    header.

    The ending, ``.stl``, ``.ply``, ``.obj`` or ``.glb``, decides the format. OBJ and GLB keep several meshes
    separate, by name; in STL and PLY they become one. Raises an InputError if there is no such format, or all
    meshes are empty.
    """
    import trimesh  # takes longer than a window may take to open

    suffix = mesh_format(os.path.splitext(os.fspath(path))[1])
    turned = {name: _turned(mesh) for name, mesh in meshes.items() if len(mesh.faces)}
    if not turned:
        raise InputError(
            f"{os.path.basename(path)} was not written, because its shape is empty: choose another shape."
        )
    note = " ".join(note.split())
    ascii_note = note.encode("ascii", "replace").decode()
    content: bytes
    if suffix == "glb":
        content = _glb(turned, note)
    elif suffix == "obj":
        content = _obj(turned, ascii_note)
    else:
        mesh = (
            next(iter(turned.values())) if len(turned) == 1 else trimesh.util.concatenate([*turned.values()])
        )
        content = mesh.export(None, file_type=suffix)
        if suffix == "stl":  # a header of 80 bytes; "solid" at its start would mean a text file
            content = ascii_note.encode()[:80].ljust(80) + content[80:]
        else:
            format_line, end, rest = content.partition(b"little_endian 1.0\n")
            content = format_line + end + f"comment {ascii_note}\n".encode() + rest
    with written_aside(path) as temporary:
        temporary.write_bytes(content)


def _turned(mesh: "trimesh.Trimesh") -> "trimesh.Trimesh":
    """Vertices (x, y, z). Reversing the axes is a mirror, so faces are reversed too."""
    return type(mesh)(mesh.vertices[:, ::-1], mesh.faces[:, ::-1], process=False)


def _obj(meshes: "Mapping[str, trimesh.Trimesh]", note: str) -> bytes:
    lines, first = [f"# {note}"], 1
    for name, mesh in meshes.items():
        lines.append("o " + "_".join(name.split()))
        lines += ["v {:.9g} {:.9g} {:.9g}".format(*vertex) for vertex in mesh.vertices.tolist()]
        lines += ["f {} {} {}".format(*face) for face in (mesh.faces + first).tolist()]
        first += len(mesh.vertices)
    return ("\n".join(lines) + "\n").encode()


def _glb(meshes: "Mapping[str, trimesh.Trimesh]", note: str) -> bytes:
    import trimesh
    from trimesh.exchange.gltf import export_glb

    def noted(tree: dict[str, object]) -> None:
        tree["asset"] = {**dict(tree.get("asset", {})), "extras": {"note": note}}  # type: ignore[call-overload]

    scene = trimesh.Scene()
    for name, mesh in meshes.items():
        scene.add_geometry(mesh, node_name=name, geom_name=name)
    # Without normals viewers show flat triangles.
    content: bytes = export_glb(scene, include_normals=True, tree_postprocessor=noted)
    return content


def meshes_of_labels(labels: ArrayLike, index_to_world: ArrayLike) -> "dict[int, trimesh.Trimesh]":
    """Smooth closed meshes of all cells of a 3D label volume; see `level_of`.

    Parameters
    ----------
    labels : (z, y, x) integer array
        0 is background.
    index_to_world : (4, 4) array
        Affine on (z, y, x, 1) from voxel-centre index to world.

    Returns
    -------
    dict of label to Trimesh
        Vertices (z, y, x) in the world. Each mesh has the volume of its voxels (to 0.2 %).
    """
    from napari_dispr.shapes.label_volumes import level_of

    labels, affine = whole_numbers(np.asarray(labels)), np.asarray(index_to_world, dtype=np.float64)
    check_spacing(affine)
    found = {}
    for label, box in cell_boxes(labels).items():
        moved = affine.copy()
        moved[:3, 3] = (affine @ [*(part.start for part in box), 1])[:3]
        found[label] = surface_mesh(*level_of(labels[box] == label, moved))
    return found
