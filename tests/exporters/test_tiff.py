import numpy as np
import pytest
import tifffile
from PIL import Image, ImageSequence

from biosegment.errors import ExportError
from biosegment.geometry import VoxelSize
from exporters import tiff
from exporters.base import LabelClass
from exporters.testing import CLASSES, SHAPE, WriterContract, example, example_labels, layer_of
from exporters.tiff import TiffWriter

DESCRIPTION, X_RESOLUTION, Y_RESOLUTION, COLOR_MAP = 270, 282, 283, 320


def read(path):
    """Return voxels and voxel size by Pillow."""
    with Image.open(path) as image:
        voxels = np.stack([np.array(page) for page in ImageSequence.Iterator(image)])
        image.seek(0)
        told = described(image)
        if "unit" not in told:
            return voxels, None
        assert told["unit"] == "um"
        y, x = (1000 / float(image.tag_v2[tag]) for tag in (Y_RESOLUTION, X_RESOLUTION))
        return voxels, VoxelSize(1000 * float(told["spacing"]), y, x)


def described(image):
    """Return what ImageJ reads of the description."""
    lines = image.tag_v2[DESCRIPTION].strip("\0\n").split("\n")
    return dict(line.split("=", 1) for line in lines)


def write(path, array, **options):
    TiffWriter().write(path, None, layer_of(array, options.pop("classes", CLASSES), **options))
    return path


class TestTiffWriter(WriterContract):
    writer = TiffWriter

    def image(self, path):
        return read(path)

    def labels(self, path):
        return read(path)

    def names(self, path):
        with tifffile.TiffFile(path) as file:
            lines = file.imagej_metadata["Info"].splitlines()
        return {int(value): name for value, name in (line.split(": ", 1) for line in lines)}


def test_it_is_a_stack_of_slices_that_imagej_shows_in_its_window(tmp_path):
    path = tmp_path / "a.tif"
    layer = layer_of(example("uint16"))
    TiffWriter().write(path, layer, None)
    with Image.open(path) as image:
        told = described(image)
        assert image.n_frames == SHAPE[0]
    assert told["slices"] == told["images"] == str(SHAPE[0])
    assert "channels" not in told
    assert (float(told["min"]), float(told["max"])) == layer.window


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_each_label_has_its_colour(tmp_path, dtype):
    with Image.open(write(tmp_path / "a.tif", example_labels(dtype))) as image:
        colours = np.reshape(image.tag_v2[COLOR_MAP], (3, 256)).T
        told = described(image)
    assert (float(told["min"]), float(told["max"])) == (0, 255)
    assert colours[0].tolist() == [0, 0, 0]
    for each in CLASSES:
        assert colours[each.value].tolist() == [257 * part for part in each.colour]


def test_colours_of_values_above_255_are_spread_over_them(tmp_path):
    classes = (LabelClass(1, "a", (1, 2, 3)), LabelClass(2550, "b", (4, 5, 6)))
    with Image.open(write(tmp_path / "a.tif", example_labels("uint16"), classes=classes)) as image:
        colours = np.reshape(image.tag_v2[COLOR_MAP], (3, 256)).T
        assert float(described(image)["max"]) == 2550
    assert colours[255].tolist() == [4 * 257, 5 * 257, 6 * 257]
    assert colours[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("dtype", "times", "largest"), [("uint8", 100, 255), ("uint16", 1, 255), ("uint16", 400, 800)]
)
def test_numbered_objects_have_colours_up_to_the_last_one(tmp_path, dtype, times, largest):
    path = write(tmp_path / "a.tif", times * example_labels(dtype), classes=(), name="labels")
    with Image.open(path) as image:
        colours = np.reshape(image.tag_v2[COLOR_MAP], (3, 256)).T
        told = described(image)
    assert (float(told["min"]), float(told["max"])) == (0, largest)
    assert colours[0].tolist() == [0, 0, 0]
    assert np.abs(np.diff(colours, axis=0)).max(axis=1).min() > 6000


@pytest.mark.parametrize("known", [True, False])
def test_what_is_too_large_for_imagej_becomes_ome_tiff(tmp_path, monkeypatch, known):
    monkeypatch.setattr(tiff, "LARGEST_IMAGEJ_BYTES", 1000)
    size = VoxelSize(40, 5, 4) if known else None
    path = write(tmp_path / "a.tif", example_labels("uint16"), voxel_size=size)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        assert file.series[0].axes == "ZYX"
        np.testing.assert_array_equal(file.asarray(), example_labels("uint16"))
        ome = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]
    assert ome["Description"] == "1: mitochondria\n2: vesicles\n3: unused"
    pixels = ome["Pixels"]
    found = [pixels.get(f"PhysicalSize{axis}") for axis in "ZYX"]
    assert found == ([0.04, 0.005, 0.004] if known else [None] * 3)
    assert pixels.get("PhysicalSizeZUnit") == ("µm" if known else None)


@pytest.mark.parametrize(("dtype", "coloured"), [("uint8", True), ("uint16", False)])
def test_ome_tiff_has_colours_of_8_bit_labels(tmp_path, monkeypatch, dtype, coloured):
    monkeypatch.setattr(tiff, "LARGEST_IMAGEJ_BYTES", 1000)
    path = write(tmp_path / "a.tif", example_labels(dtype))
    with Image.open(path) as image:
        table = image.tag_v2.get(COLOR_MAP)
    assert (table is not None) == coloured
    if coloured:
        for each in CLASSES:
            assert [part // 257 for part in table[each.value :: 256]] == list(each.colour)
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(file.asarray(), example_labels(dtype))


def test_integers_that_no_type_of_imagej_holds_are_refused(tmp_path):
    with pytest.raises(ExportError, match="uint32"):
        TiffWriter().write(tmp_path / "a.tif", layer_of(example("uint32")), None)
    assert list(tmp_path.iterdir()) == []
