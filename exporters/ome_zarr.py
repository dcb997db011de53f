"""OME-Zarr 0.5: an image and its labels, with coarser levels (.ome.zarr, a folder).

The image lies at the root, its labels in ``labels/labels``. Labels without an image lie at the
root themselves, for a root without an image is none that programs open: there, no path has to be
given. Chunks and levels are as in this project's own volumes. Colours and names of labels are
those of the specification.

References
----------
.. [1] https://ngff.openmicroscopy.org/0.5/

Examples
--------
>>> import numpy as np, tempfile, pathlib, zarr
>>> from exporters.testing import layer_of
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.ome.zarr"
>>> OmeZarrWriter().write(path, layer_of(np.zeros((2, 3, 4), "uint8")), None)
>>> zarr.open_group(path, mode="r")["0"].shape
(2, 3, 4)
"""

from pathlib import Path
from typing import Any

import numpy as np
import zarr

from biosegment import pyramid
from biosegment.ome_zarr import create_image, image_levels, list_labels
from exporters.base import Layer, VolumeWriter, writable_dtype

_LABELS = "labels"
_OPAQUE = 255


class OmeZarrWriter(VolumeWriter):
    """Writes OME-Zarr folders."""

    IMAGE_SUFFIX = ".ome.zarr"
    LABELS_SUFFIX = ".ome.zarr"
    TOGETHER = True
    LABELS_DATASET = f"labels/{_LABELS}"
    IMAGE_DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "float64")
    LABELS_DTYPES = ("uint8", "uint16", "uint32")

    def _write(self, path: Path, image: Layer | None, labels: Layer | None) -> None:
        root = zarr.open_group(path, mode="w-", zarr_format=3)
        group = root
        if image:
            create_image(root, image.name, image.shape, self._image_dtype(image), image.voxel_size)
            _fill(root, image, labels=False)
            if labels:
                list_labels(root, [_LABELS])
                group = root.create_group(self.LABELS_DATASET)
        if labels:
            create_image(
                group,
                labels.name,
                labels.shape,
                writable_dtype(labels.dtype, self.LABELS_DTYPES),
                labels.voxel_size,
                **{"image-label": _image_label(labels, "../../" if image else None)},
            )
            _fill(group, labels, labels=True)

    def _image_dtype(self, image: Layer) -> np.dtype[Any] | None:
        return writable_dtype(image.dtype, self.IMAGE_DTYPES)


def _fill(group: zarr.Group, layer: Layer, *, labels: bool) -> None:
    """Write all levels of an image."""
    levels = image_levels(group)
    for z, plane in enumerate(layer.planes(levels[0].dtype)):
        levels[0][z : z + 1] = plane[None]
    for number, z in pyramid.steps(levels):
        pyramid.build(levels, number, z, labels=labels)


def _image_label(labels: Layer, image: str | None) -> dict[str, Any]:
    """Return colour and name of each value, and where the image is."""
    told: dict[str, Any] = {"source": {"image": image}} if image else {}
    if labels.classes:
        # The same values in both, or readers refuse the whole image.
        told["colors"] = [
            {"label-value": each.value, "rgba": [*each.colour, _OPAQUE]} for each in labels.classes
        ]
        told["properties"] = [
            {"label-value": each.value, "name": each.name} for each in labels.classes
        ]
    return told
