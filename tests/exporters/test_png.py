import json

import numpy as np
import pytest
from PIL import Image

from biosegment.errors import ExportError
from biosegment.geometry import Roi, VoxelSize
from exporters.png import PngWriter
from exporters.testing import (
    CLASSES,
    VOXEL_SIZE,
    WriterContract,
    example,
    example_labels,
    layer_of,
)
from importers.detect import open_volume


def facts(path):
    return json.loads((path / "volume.json").read_text())


def read(path):
    """Return voxels by Pillow, and the voxel size that stands beside them."""
    slices = sorted(path.glob("*.png"))
    size = facts(path)["voxel_size_nm"]
    volume = np.stack([np.array(Image.open(each)) for each in slices])
    assert facts(path)["shape"] == list(volume.shape)
    return volume, None if size is None else VoxelSize(*size)


def write(path, array, classes=CLASSES, **options):
    PngWriter().write(path, None, layer_of(array, classes, name="labels", **options))
    return path


class TestPngWriter(WriterContract):
    writer = PngWriter

    def image(self, path):
        return read(path)

    def labels(self, path):
        return read(path)

    def names(self, path):
        return {int(value): name for value, name in facts(path)["label_names"].items()}


def test_slices_are_numbered_so_that_they_sort(tmp_path):
    path = write(tmp_path / "a_png", np.zeros((11, 2, 3), "uint8"))
    assert [each.name for each in sorted(path.iterdir())] == [
        *(f"{z:04}.png" for z in range(11)),
        "volume.json",
    ]
    many = np.zeros((10_001, 1, 1), "uint8")
    many[9999] = 1
    assert np.flatnonzero(read(write(tmp_path / "b_png", many))[0]).tolist() == [9999]


def test_labels_show_the_colours_of_their_classes(tmp_path):
    path = write(tmp_path / "a_png", example_labels("uint8"))
    with Image.open(path / "0000.png") as picture:
        assert picture.mode == "P"
        shown = np.array(picture.convert("RGB"))
    labels = example_labels("uint8")[0]
    assert shown[labels == 2].tolist() == [list(CLASSES[1].colour)] * (labels == 2).sum()
    assert not shown[labels == 0].any()
    assert facts(path)["label_colours"]["1"] == list(CLASSES[0].colour)


def test_numbered_objects_show_colours_too(tmp_path):
    path = write(tmp_path / "a_png", np.arange(256, dtype="uint8").reshape(1, 16, 16), ())
    with Image.open(path / "0000.png") as picture:
        shown = np.array(picture.convert("RGB")).reshape(-1, 3)
    assert len(np.unique(shown, axis=0)) == 256


def test_values_of_16_bits_are_grey(tmp_path):
    with Image.open(write(tmp_path / "a_png", example_labels("uint16")) / "0000.png") as picture:
        assert picture.mode == "I;16"


@pytest.mark.parametrize(("edge", "known"), [(4, True), (0.1, False)])
def test_pictures_know_the_size_of_a_pixel_where_it_fits(tmp_path, edge, known):
    size = VoxelSize(40, 5, edge)
    path = write(tmp_path / "a_png", example_labels("uint8"), voxel_size=size)
    with Image.open(path / "0000.png") as picture:
        assert ("dpi" in picture.info) == known
        if known:
            assert picture.info["dpi"] == pytest.approx((2.54e7 / 4, 2.54e7 / 5))


def test_the_window_of_intensities_stands_beside_them(tmp_path):
    PngWriter().write(tmp_path / "a_png", layer_of(example("uint16")), None)
    assert facts(tmp_path / "a_png")["window"] == [0, 255]


def test_an_import_reads_it_back(tmp_path):
    labels = example_labels("uint8")
    with open_volume(write(tmp_path / "a_png", labels)) as reader:
        assert reader.info.voxel_size == VOXEL_SIZE
        assert reader.info.label_names == {each.value: each.name for each in CLASSES}
        np.testing.assert_array_equal(reader.read(Roi.whole(labels.shape)), labels)


@pytest.mark.parametrize("dtype", ["float32", "int16", "uint32"])
def test_what_pictures_do_not_hold_is_refused(tmp_path, dtype):
    with pytest.raises(ExportError, match=dtype):
        PngWriter().write(tmp_path / "a_png", layer_of(example(dtype)), None)
    assert list(tmp_path.iterdir()) == []
