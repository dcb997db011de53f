import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel

from biosegment.geometry import VoxelSize
from exporters.ome_zarr import OmeZarrWriter
from exporters.testing import CLASSES, WriterContract, example_labels, layer_of


def read(group):
    """Return voxels and voxel size by zarr, where ome-zarr-models finds them."""
    multiscale = Image.from_zarr(group).ome_attributes.multiscales[0]
    assert [axis.name for axis in multiscale.axes] == ["z", "y", "x"]
    units = {axis.unit for axis in multiscale.axes}
    assert units in ({"nanometer"}, {None})
    (finest, *_) = multiscale.datasets
    scale = finest.coordinateTransformations[0].scale
    voxels = group[finest.path][:]
    return voxels, VoxelSize(*scale) if units == {"nanometer"} else None


def labels_group(path):
    group = zarr.open_group(path, mode="r")
    return group["labels/labels"] if "labels" in group else group


class TestOmeZarrWriter(WriterContract):
    writer = OmeZarrWriter

    def image(self, path):
        return read(zarr.open_group(path, mode="r"))

    def labels(self, path):
        return read(labels_group(path))

    def names(self, path):
        told = ImageLabel.from_zarr(labels_group(path)).ome_attributes.image_label
        return {each.label_value: each.name for each in told.properties}


def both(path, shape, classes=CLASSES):
    """Write an image and labels of a large slice, and return their groups."""
    generator = np.random.default_rng(1)
    image = generator.integers(0, 256, shape).astype("uint8")
    labels = (3 * (image > 128)).astype("uint8")
    OmeZarrWriter().write(path, layer_of(image), layer_of(labels, classes))
    return zarr.open_group(path, mode="r"), labels_group(path)


def test_image_and_labels_are_valid_together(tmp_path):
    image, labels = both(tmp_path / "a.ome.zarr", (2, 30, 40))
    found = Image.from_zarr(image)
    assert list(found.labels.label_paths) == ["labels"]
    told = ImageLabel.from_zarr(labels).ome_attributes.image_label
    assert told.source.image == "../../"
    colours = {each.label_value: each.rgba for each in told.colors}
    assert colours == {each.value: (*each.colour, 255) for each in CLASSES}


def test_image_and_labels_have_the_same_levels(tmp_path):
    image, labels = both(tmp_path / "a.ome.zarr", (2, 700, 600))
    assert image["1"].shape == labels["1"].shape == (2, 350, 300)
    assert set(np.unique(labels["1"][:])) == {0, 3}
    assert 100 < image["1"][:].mean() < 156
    scale = Image.from_zarr(labels).ome_attributes.multiscales[0].datasets[1]
    assert scale.coordinateTransformations[0].scale == pytest.approx([40, 10, 8])


def test_labels_without_an_image_lie_at_the_root(tmp_path):
    path = tmp_path / "a.ome.zarr"
    OmeZarrWriter().write(path, None, layer_of(example_labels("uint16"), CLASSES))
    group = zarr.open_group(path, mode="r")
    assert "labels" not in group
    told = ImageLabel.from_zarr(group).ome_attributes.image_label
    assert [each.label_value for each in told.colors] == [1, 2, 3]


def test_values_without_a_meaning_get_the_colours_of_the_program(tmp_path):
    _, labels = both(tmp_path / "a.ome.zarr", (2, 30, 40), classes=())
    told = ImageLabel.from_zarr(labels).ome_attributes.image_label
    assert told.colors is None
    assert told.properties is None
