"""Surfaces of labels in a folder, a file for each value."""

import re
from abc import abstractmethod
from pathlib import Path

from exporters.base import LabelClass, Layer, VolumeWriter, renamed
from exporters.surfaces import Surface, surfaces


class MeshFolderWriter(VolumeWriter):
    """Writes a surface mesh of each value; a file is called after the value and its class."""

    LABELS_SUFFIX = "_meshes"
    LABELS_DTYPES = ("uint8", "uint16", "uint32")
    COMES_BACK = False

    def notices(self, labels: Layer) -> tuple[str, ...]:
        """Return which names were changed."""
        return renamed((each.name, _file_name(each.name)) for each in labels.classes)

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        assert labels is not None
        path.mkdir()
        for surface in surfaces(labels):
            (path / f"{_stem(surface.of)}{self._ending()}").write_bytes(self._content(surface))

    @abstractmethod
    def _ending(self) -> str:
        """Return the ending of the file of one surface."""

    @abstractmethod
    def _content(self, surface: Surface) -> bytes:
        """Return what stands in it."""


def _stem(of: LabelClass) -> str:
    number = str(of.value)
    return number if of.name == number else f"{number}_{_file_name(of.name)}"


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name)
