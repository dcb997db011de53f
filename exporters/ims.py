"""Imaris 5.5 files (.ims): intensities and labels as channels of one file.

Channel 0 has the intensities, the next one the label values. Imaris makes a surface of a channel,
so one of each class follows, 255 where it is and 0 elsewhere, with its name and colour; not of
numbered objects, nor of more than 50 classes, nor where labels are to be changed and brought back.
All channels have one type, the smallest that holds both. Lengths are micrometres; edges are 1,
without a unit, where the voxel size is unknown. What labels mean stands in the description of their
channel, such as ``1 mitochondria, 2 vesicles``; up to the value 255 they have their colours.

Cannot be stored: numbers that are not finite, which become 0; the time of recording, for which
1970 stands. Surfaces are not written: their layout is not published.

References
----------
.. [1] Imaris 5.5 file format, https://github.com/imaris/ImarisWriter/tree/master/doc

Examples
--------
>>> import h5py, numpy as np, tempfile, pathlib
>>> from exporters.testing import layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.ims"
>>> ImsWriter().write(path, layer_of(np.zeros((2, 3, 4), "uint8")), None)
>>> h5py.File(path)["DataSetInfo/Image"].attrs["X"].tobytes()
b'4'
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import biosegment
from biosegment.geometry import Roi
from exporters.base import LabelClass, Layer, VolumeWriter, writable_dtype
from exporters.hdf5_file import new_hdf5
from exporters.ims_levels import number, text, write_channel

_NM_PER_UM = 1000
# Bytes of an attribute; a longer text is a dataset.
_LONGEST = 1024
_COLOURS = 256
_WHITE = (255, 255, 255)
_MOST_CLASSES, _INSIDE = 50, 255
_NO_TIME = "1970-01-01 00:00:00"


class ImsWriter(VolumeWriter):
    """Writes Imaris files."""

    IMAGE_SUFFIX = ".ims"
    LABELS_SUFFIX = ".ims"
    TOGETHER = True
    LABELS_CHANNEL = 1

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        layers = [layer for layer in (image, labels) if layer is not None]
        dtypes = [writable_dtype(layer.dtype, self.IMAGE_DTYPES) for layer in layers]
        dtype = np.result_type(*(each for each in dtypes if each is not None))
        with new_hdf5(path) as (file, check):
            _write_root(file)
            _write_info(file.create_group("DataSetInfo"), layers[0])
            for channel, layer in enumerate(layers):
                is_labels = layer is labels
                span = write_channel(file, channel, layer, dtype, check, labels=is_labels)
                colours = _label_colours(layer, span) if is_labels else _one_colour(layer, _WHITE)
                _put(_info(file, channel), _channel(layer) | colours)
            alone = () if labels is None or self.to_edit else _classes(labels)
            for channel, (each, layer) in enumerate(alone, start=len(layers)):
                write_channel(file, channel, layer, dtype, check, labels=True)
                _put(_info(file, channel), _channel(layer) | _one_colour(layer, each.colour))


def _info(file: Any, channel: int) -> Any:  # noqa: ANN401 (h5py has no types)
    return file["DataSetInfo"].create_group(f"Channel {channel}")


def _classes(labels: Layer) -> Iterator[tuple[LabelClass, Layer]]:
    """Yield where each class is."""
    if len(labels.classes) <= _MOST_CLASSES:
        for each in labels.classes:

            def read(roi: Roi, value: int = each.value) -> npt.NDArray[Any]:
                inside: npt.NDArray[np.bool_] = np.equal(labels.read(roi), value)
                return inside.view(np.uint8) * np.uint8(_INSIDE)

            yield each, replace(labels, name=each.name, classes=(), window=(0, _INSIDE), read=read)


def _write_root(file: Any) -> None:  # noqa: ANN401 (h5py has no types)
    texts = {
        "ImarisDataSet": "ImarisDataSet",
        "ImarisVersion": "5.5.0",
        "DataSetDirectoryName": "DataSet",
        "DataSetInfoDirectoryName": "DataSetInfo",
        "ThumbnailDirectoryName": "Thumbnail",
    }
    _put(file, texts)
    file.attrs["NumberOfDataSets"] = np.array([1], np.uint32)


def _write_info(info: Any, layer: Layer) -> None:  # noqa: ANN401
    """Write what holds for all channels."""
    _put(info.create_group("Image"), _image(layer))
    times = {"DatasetTimePoints": "1", "FileTimePoints": "1", "TimePoint1": _NO_TIME}
    _put(info.create_group("TimeInfo"), times)
    writer = {"Creator": "BioSegment", "NumberOfImages": "1", "Version": biosegment.__version__}
    _put(info.create_group("ImarisDataSet"), writer)
    _put(info.create_group("Log"), {"Entries": "0"})


def _image(layer: Layer) -> dict[str, str]:
    size = layer.voxel_size
    edges_um = [edge / _NM_PER_UM for edge in size.zyx] if size else [1.0] * 3
    texts = {"Name": layer.name, "Description": "(description not specified)"}
    texts |= {"Unit": "um"} if size else {}
    for place, axis in enumerate("XYZ"):
        extent = layer.shape[2 - place] * edges_um[2 - place]
        texts |= {
            axis: str(layer.shape[2 - place]),
            # The outer edges of the volume, not the centres of its voxels.
            f"ExtMin{place}": f"{0:.9f}",
            f"ExtMax{place}": f"{extent:.9f}",
            f"ResampleDimension{axis}": "true",
        }
    return texts


def _channel(layer: Layer) -> dict[str, str]:
    meaning = ", ".join(f"{each.value} {each.name}" for each in layer.classes)
    return {
        "Name": layer.name,
        "Description": meaning or "(description not specified)",
        "ColorOpacity": "0.000",
        "GammaCorrection": "1.000",
    }


def _one_colour(layer: Layer, colour: tuple[int, int, int]) -> dict[str, str]:
    shown = _range(*layer.window)
    return {"ColorMode": "BaseColor", "Color": _colour(colour), "ColorRange": shown}


def _label_colours(layer: Layer, span: tuple[float, float]) -> dict[str, str]:
    """Return a table with an entry for each value, or one colour where it had too few."""
    largest = max([span[1], *(each.value for each in layer.classes)])
    if not layer.classes or largest >= _COLOURS:
        base = {"ColorMode": "BaseColor", "Color": _colour(_WHITE)}
        return base | {"ColorRange": _range(0, largest)}
    table = [(0, 0, 0), *[_WHITE] * (_COLOURS - 1)]
    for each in layer.classes:
        table[each.value] = each.colour
    return {
        # Bio-Formats, which is in Fiji too, opens no file where only some channels have it.
        "Color": _colour(_WHITE),
        "ColorMode": "TableColor",
        "ColorTable": "".join(f"{_colour(entry)} " for entry in table),
        "ColorTableLength": str(_COLOURS),
        "ColorRange": _range(0, _COLOURS - 1),
    }


def _colour(rgb: tuple[int, int, int]) -> str:
    return " ".join(f"{part / 255:.3f}" for part in rgb)


def _range(black: float, white: float) -> str:
    return f"{number(black)} {number(white)}"


def _put(group: Any, texts: dict[str, str]) -> None:  # noqa: ANN401
    for name, value in texts.items():
        if len(encoded := text(value)) > _LONGEST:
            group.create_dataset(name, data=encoded)
        else:
            group.attrs[name] = encoded
