"""Meshes as files that other programs read: STL, PLY, OBJ, GLB; and meshes of voxels that were drawn by hand.

In a file vertices are (x, y, z) in the world's unit, as other programs take them; a mesh of ours has
(z, y, x). The surfaces are turned over with that, so that normals still point outwards.
"""

import os
from collections.abc import Mapping

import numpy as np
import trimesh
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import find_objects, gaussian_filter

from napari_dispr.errors import InputError
from napari_dispr.files import written_aside
from napari_dispr.shapes.meshes import surface_mesh

#: Formats of meshes, by what their files' names end in.
FORMATS = ("stl", "ply", "obj", "glb")

#: Voxels by which the stairs of a binary volume are smoothed, and the volume's error that is left after it.
_SMOOTHING, _VOLUME_ERROR = 1.0, 2e-3


def mesh_format(name: str) -> str:
    """The format that a user named, as one of `FORMATS`.

    Raises
    ------
    InputError
        If it is another.
    """
    plain = name.lower().lstrip(".")
    if plain not in FORMATS:
        raise InputError(f"Meshes cannot be written as {name!r}: choose among {', '.join(FORMATS)}.")
    return plain


def write_mesh(path: str | os.PathLike[str], meshes: Mapping[str, trimesh.Trimesh], note: str = "") -> None:
    """Write meshes into one file; its name's end says which format.

    Parameters
    ----------
    path : path
        Ends in ``.stl``, ``.ply``, ``.obj`` or ``.glb``.
    meshes : mapping of name to Trimesh
        Vertices (z, y, x) in world coordinates. OBJ and GLB keep several apart, by their names; in STL
        and PLY they become one.
    note : str
        Goes into the file's header: the unit, and where it comes from. In one line.

    Raises
    ------
    InputError
        If the format is another, or there is nothing to write.
    """
    suffix = mesh_format(os.path.splitext(os.fspath(path))[1])
    turned = {name: _turned(mesh) for name, mesh in meshes.items() if len(mesh.faces)}
    if not turned:
        raise InputError(f"{os.path.basename(path)} would hold no surface: the shape is empty.")
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
        if suffix == "stl":  # 80 bytes of header; "solid" at its beginning would mean a text file
            content = ascii_note.encode()[:80].ljust(80) + content[80:]
        else:
            format_line, end, rest = content.partition(b"little_endian 1.0\n")
            content = format_line + end + f"comment {ascii_note}\n".encode() + rest
    with written_aside(path) as temporary:
        temporary.write_bytes(content)


def _turned(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Vertices (x, y, z); swapping two axes is a mirror, so triangles are turned over as well."""
    return trimesh.Trimesh(mesh.vertices[:, ::-1], mesh.faces[:, ::-1], process=False)


def _obj(meshes: Mapping[str, trimesh.Trimesh], note: str) -> bytes:
    lines, first = [f"# {note}"], 1
    for name, mesh in meshes.items():
        lines.append("o " + "_".join(name.split()))
        lines += ["v {:.9g} {:.9g} {:.9g}".format(*vertex) for vertex in mesh.vertices.tolist()]
        lines += ["f {} {} {}".format(*face) for face in (mesh.faces + first).tolist()]
        first += len(mesh.vertices)
    return ("\n".join(lines) + "\n").encode()


def _glb(meshes: Mapping[str, trimesh.Trimesh], note: str) -> bytes:
    from trimesh.exchange.gltf import export_glb

    def noted(tree: dict[str, object]) -> None:
        tree["asset"] = {**dict(tree.get("asset", {})), "extras": {"note": note}}  # type: ignore[call-overload]

    scene = trimesh.Scene()
    for name, mesh in meshes.items():
        scene.add_geometry(mesh, node_name=name, geom_name=name)
    # Without normals of their own viewers show each triangle flat.
    content: bytes = export_glb(scene, include_normals=True, tree_postprocessor=noted)
    return content


def meshes_of_labels(labels: ArrayLike, index_to_world: ArrayLike) -> dict[int, trimesh.Trimesh]:
    """Smooth closed meshes of all cells of a 3D label volume, such as one drawn by hand.

    Parameters
    ----------
    labels : (z, y, x) integer array
        0 is background.
    index_to_world : (4, 4) array
        Affine on (z, y, x, 1) from voxel-centre index to world.

    Returns
    -------
    dict of label to Trimesh
        Vertices (z, y, x) in the world. Each encloses the volume of its voxels (to 0.2 %), those of the
        label's thinnest specks excepted.
    """
    labels = np.asarray(labels)
    if labels.dtype == bool:
        labels = labels.astype(np.uint8)
    # find_objects makes a list up to the largest value: of the labels' ranks.
    values, ranks = np.unique(labels, return_inverse=True)
    affine = np.asarray(index_to_world, dtype=np.float64)
    found = {}
    boxes = find_objects(ranks.reshape(labels.shape).astype(np.int32) + (0 if values[0] == 0 else 1))
    for label, box in zip(values[values != 0].tolist(), boxes, strict=True):
        moved = affine.copy()
        moved[:3, 3] = (affine @ [*(part.start for part in box), 1])[:3]
        found[int(label)] = mesh_of_voxels(labels[box] == label, moved)
    return found


def mesh_of_voxels(voxels: NDArray[np.bool_], index_to_world: ArrayLike) -> trimesh.Trimesh:
    """Smooth closed mesh around voxels that encloses their volume.

    Parameters
    ----------
    voxels : (z, y, x) bool array
    index_to_world : (4, 4) array

    Returns
    -------
    trimesh.Trimesh
        Vertices (z, y, x) in the world.

    Notes
    -----
    The surface of the volume smoothed by a Gaussian of 1 voxel, at the level whose surface encloses
    the volume of the voxels: smoothing at a fixed level would shrink what is thin.
    """
    affine = np.asarray(index_to_world, dtype=np.float64)
    margin = int(4 * _SMOOTHING)
    level = gaussian_filter(np.pad(voxels, margin).astype(np.float32), _SMOOTHING)
    moved = affine.copy()
    moved[:3, 3] = (affine @ [-margin, -margin, -margin, 1])[:3]
    volume = np.count_nonzero(voxels) * abs(np.linalg.det(affine[:3, :3]))
    low, high = 0.0, float(level.max())
    mesh = surface_mesh(level - np.float32(0.5 * high), moved)
    for _ in range(20):
        middle = 0.5 * (low + high)
        mesh = surface_mesh(level - np.float32(middle), moved)
        error = float(mesh.volume) / volume - 1 if len(mesh.faces) else -1.0
        if abs(error) < _VOLUME_ERROR:
            break
        low, high = (middle, high) if error > 0 else (low, middle)
    return mesh
