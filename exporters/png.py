"""PNG: a folder of slices, and what they show in ``volume.json`` beside them.

Slices are numbered from 0. Intensities have 8 or 16 bits. Label values of 8 bits are indices of a
palette, so that pictures show the colours of classes and still hold the values; those of 16 bits
are grey values, for there is no palette of so many. ``volume.json`` has what a picture has no place
for: voxel size, names and colours of classes, and which intensities to show as black and white.
Width and height of a pixel stand in each picture too, as whole pixels per metre.

Cannot be stored: integers of 32 bits, negative numbers, floats.

References
----------
.. [1] https://www.w3.org/TR/png-3/

Examples
--------
>>> import numpy as np, tempfile, pathlib
>>> from exporters.testing import layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack_png"
>>> PngWriter().write(path, layer_of(np.zeros((2, 3, 4), "uint8")), None)
>>> sorted(each.name for each in path.iterdir())
['0000.png', '0001.png', 'volume.json']
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from exporters.base import Layer, VolumeWriter, writable_dtype
from exporters.object_colours import object_colours

_FACTS = "volume.json"
_LEVEL = 3
_DIGITS = 4
_ENTRIES = 256
_NM_PER_INCH = 2.54e7
_SMALLEST_NM = 0.5
_BACKGROUND, _NAMELESS = (0, 0, 0), (255, 255, 255)


class PngWriter(VolumeWriter):
    """Writes folders of PNG slices."""

    IMAGE_SUFFIX = "_png"
    LABELS_SUFFIX = "_png"
    IMAGE_DTYPES = ("uint8", "uint16")

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        layer, dtypes = (image, self.IMAGE_DTYPES) if image else (labels, self.LABELS_DTYPES)
        assert layer is not None
        dtype = writable_dtype(layer.dtype, dtypes)
        assert dtype is not None
        palette = _palette(layer) if labels and dtype.itemsize == 1 else None
        path.mkdir()
        digits = max(_DIGITS, len(str(layer.shape[0] - 1)))
        for z, plane in enumerate(layer.planes(dtype)):
            picture = Image.fromarray(np.ascontiguousarray(plane))
            if palette is not None:
                # Turns grey values into indices.
                picture.putpalette(palette)
            with (path / f"{z:0{digits}}.png").open("wb") as file:
                picture.save(file, "PNG", compress_level=_LEVEL, **_pixel_size(layer))
        facts = _label_facts(layer) if labels else {"window": layer.window}
        size = list(layer.voxel_size.zyx) if layer.voxel_size else None
        (path / _FACTS).write_text(
            json.dumps({"shape": layer.shape, "voxel_size_nm": size, **facts}, indent=1)
        )


def _palette(layer: Layer) -> bytes:
    """Return red, green and blue of the values 0 to 255."""
    table = np.full((_ENTRIES, 3), _NAMELESS, np.uint8)
    for each in layer.classes:
        if each.value < _ENTRIES:
            table[each.value] = each.colour
    if not layer.classes:
        table[:] = object_colours(np.arange(_ENTRIES))
    table[0] = _BACKGROUND
    return table.tobytes()


def _pixel_size(layer: Layer) -> dict[str, Any]:
    """Return the pixels per inch along x and y, of which Pillow makes those per metre."""
    size = layer.voxel_size
    # There is no place for more than 2^31 pixels a metre.
    if size is None or min(size.x, size.y) < _SMALLEST_NM:
        return {}
    return {"dpi": (_NM_PER_INCH / size.x, _NM_PER_INCH / size.y)}


def _label_facts(layer: Layer) -> dict[str, Any]:
    return {
        "label_names": {str(each.value): each.name for each in layer.classes},
        "label_colours": {str(each.value): each.colour for each in layer.classes},
    }
