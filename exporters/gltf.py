"""glTF 2.0 in one file (.glb): a scene with the surface of each class or object.

Each is a node with its name and a material of its colour. A unit of the scene is a micrometre, or a
voxel where its size is unknown; x, y, z begin at the outer corner of the first voxel. `surfaces`
says how surfaces are made. The file has its description first, which needs to know what follows:
until it is written, surfaces wait in a temporary file, not in memory.

Cannot be stored: intensities, and surfaces of more than 4 GiB.

References
----------
.. [1] https://registry.khronos.org/glTF/specs/2.0/glTF-2.0.html, chapter 4 on the binary container

Examples
--------
>>> import numpy as np, tempfile, pathlib
>>> from exporters.testing import CLASSES, layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "labels.glb"
>>> GltfWriter().write(path, None, layer_of(np.ones((1, 2, 3), "uint8"), CLASSES))
>>> path.read_bytes()[:4]
b'glTF'
"""

import json
import shutil
import struct
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

import biosegment
from biosegment.errors import ExportError
from exporters.base import Layer, VolumeWriter
from exporters.surfaces import Surface, surfaces

MOST_BYTES = 2**32 - 1
"""Lengths are numbers of 32 bits."""
_HEADER, _CHUNK = struct.Struct("<4sII"), struct.Struct("<I4s")
_VERSION = 2
_FLOAT, _UNSIGNED_INT = 5126, 5125
_CORNERS, _INDICES = 34962, 34963
_ROUGHNESS = 0.7


class GltfWriter(VolumeWriter):
    """Writes scenes of glTF."""

    LABELS_SUFFIX = ".glb"
    LABELS_DTYPES = ("uint8", "uint16", "uint32")
    COMES_BACK = False

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        assert labels is not None
        with tempfile.TemporaryFile(dir=path.parent) as binary:
            scene = _Scene(binary)
            for surface in surfaces(labels):
                scene.add(surface)
            described = json.dumps(scene.described()).encode()
            described += b" " * (-len(described) % 4)
            size = _HEADER.size + 2 * _CHUNK.size + len(described) + binary.tell()
            if size > MOST_BYTES:
                reason = f"its surfaces have {size:,} bytes, and a scene holds {MOST_BYTES:,}"
                raise ExportError(labels.name, reason)
            with path.open("wb") as file:
                file.write(_HEADER.pack(b"glTF", _VERSION, size))
                file.write(_CHUNK.pack(len(described), b"JSON") + described)
                file.write(_CHUNK.pack(binary.tell(), b"BIN\0"))
                binary.seek(0)
                shutil.copyfileobj(binary, file)


class _Scene:
    """What is described of the surfaces, whose numbers lie in `binary`."""

    def __init__(self, binary: IO[bytes]) -> None:
        self._binary = binary
        self._lists: dict[str, list[Any]] = {
            name: [] for name in ("nodes", "meshes", "materials", "accessors", "bufferViews")
        }

    def add(self, surface: Surface) -> None:
        """Write a surface, and describe it."""
        number, mesh = len(self._lists["nodes"]), surface.mesh
        corners = mesh.vertices.astype("<f4")
        span = {"min": corners.min(axis=0).tolist(), "max": corners.max(axis=0).tolist()}
        attributes = {
            "POSITION": self._stored(corners, _CORNERS, _FLOAT, "VEC3", **span),
            "NORMAL": self._stored(_normals(surface), _CORNERS, _FLOAT, "VEC3"),
        }
        indices = mesh.faces.ravel().astype("<u4")
        part = {
            "attributes": attributes,
            "indices": self._stored(indices, _INDICES, _UNSIGNED_INT, "SCALAR"),
            "material": number,
        }
        name = surface.of.name
        shine = {"metallicFactor": 0.0, "roughnessFactor": _ROUGHNESS}
        colour = {"baseColorFactor": [*map(_linear, surface.of.colour), 1.0]}
        self._lists["nodes"].append({"name": name, "mesh": number})
        self._lists["meshes"].append({"name": name, "primitives": [part]})
        self._lists["materials"].append({"name": name, "pbrMetallicRoughness": colour | shine})

    def described(self) -> dict[str, Any]:
        """Return the description of all surfaces."""
        writer = f"BioSegment {biosegment.__version__}"
        lists = {name: each for name, each in self._lists.items() if each}
        if lists:
            lists["buffers"] = [{"byteLength": self._binary.tell()}]
        # A list of the format is never empty.
        nodes = {"nodes": list(range(len(self._lists["nodes"])))} if lists else {}
        return {
            "asset": {"version": f"{_VERSION}.0", "generator": writer},
            "scene": 0,
            "scenes": [nodes],
            **lists,
        }

    def _stored(
        self, values: npt.NDArray[Any], target: int, component: int, kind: str, **span: object
    ) -> int:
        """Write numbers, all of four bytes, and return the number of what describes them."""
        views, accessors = self._lists["bufferViews"], self._lists["accessors"]
        place = {"byteOffset": self._binary.tell(), "byteLength": values.nbytes}
        views.append({"buffer": 0, **place, "target": target})
        accessor = {"bufferView": len(views) - 1, "componentType": component, "type": kind}
        accessors.append({**accessor, "count": len(values), **span})
        self._binary.write(np.ascontiguousarray(values).data)
        return len(accessors) - 1


def _normals(surface: Surface) -> npt.NDArray[Any]:
    """Return the direction outwards at each corner, of length 1."""
    normals: npt.NDArray[Any] = surface.mesh.vertex_normals.astype("<f4")
    normals[~normals.any(axis=1)] = (0, 0, 1)
    return normals


def _linear(part: int) -> float:
    """Return how much light a part of a colour on screen, 0 to 255, stands for."""
    share = part / 255
    return share / 12.92 if share <= 0.04045 else ((share + 0.055) / 1.055) ** 2.4
