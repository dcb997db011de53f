import resource

import h5py
import numpy as np
import pytest

from biosegment.errors import DiskFullError
from biosegment.geometry import VoxelSize
from exporters.base import LabelClass
from exporters.ims import ImsWriter
from exporters.ims_levels import level_shapes, value_counts
from exporters.testing import (
    CLASSES,
    VOXEL_SIZE,
    WriterContract,
    example,
    example_labels,
    layer_of,
)


def texts(node):
    """Return the attributes of a node, each an array of single bytes as Imaris wants it."""
    found = {name: value for name, value in node.attrs.items() if name != "NumberOfDataSets"}
    assert all((value.ndim, value.dtype) == (1, "S1") for value in found.values())
    return {name: value.tobytes().decode() for name, value in found.items()}


def channel(file, number, level=0):
    """Return the voxels of a channel without padding."""
    group = file[f"DataSet/ResolutionLevel {level}/TimePoint 0/Channel {number}"]
    attributes = texts(group)
    depth, height, width = (int(attributes[f"ImageSize{axis}"]) for axis in "ZYX")
    return group["Data"][:depth, :height, :width]


def names_of_channels(file):
    count = len(file["DataSet/ResolutionLevel 0/TimePoint 0"])
    return [texts(file[f"DataSetInfo/Channel {number}"])["Name"] for number in range(count)]


def labels_channel(file):
    return names_of_channels(file).index("labels")


def read(path, number=None):
    """Return voxels of a channel, that of the labels if none is named, and the voxel size."""
    with h5py.File(path) as file:
        volume = channel(file, labels_channel(file) if number is None else number)
        image = texts(file["DataSetInfo/Image"])
    assert [int(image[axis]) for axis in "ZYX"] == list(volume.shape)
    extents = [float(image[f"ExtMax{axis}"]) - float(image[f"ExtMin{axis}"]) for axis in "210"]
    edges = [extent / size for extent, size in zip(extents, volume.shape, strict=True)]
    if "Unit" not in image:
        return volume, None
    assert image["Unit"] == "um"
    return volume, VoxelSize(*(1000 * edge for edge in edges))


def write(tmp_path, image, labels=None, **options):
    path = tmp_path / "stack.ims"
    ImsWriter(**options).write(path, image, labels)
    return h5py.File(path)


class TestImsWriter(WriterContract):
    writer = ImsWriter

    def image(self, path):
        return read(path, 0)

    def labels(self, path):
        return read(path)

    def names(self, path):
        with h5py.File(path) as file:
            description = texts(file[f"DataSetInfo/Channel {labels_channel(file)}"])["Description"]
        parts = (part.split(" ", 1) for part in description.split(", "))
        return {int(value): name for value, name in parts}


def test_the_layout_is_that_of_the_vendors_writer(tmp_path):
    with write(tmp_path, layer_of(example("uint8"))) as file:
        root = texts(file)
        assert (root["ImarisDataSet"], root["ImarisVersion"]) == ("ImarisDataSet", "5.5.0")
        assert (file.attrs["NumberOfDataSets"].dtype, *file.attrs["NumberOfDataSets"]) == (
            np.uint32,
            1,
        )
        assert file.id.get_create_plist().get_version()[0] <= 2
        assert texts(file["DataSetInfo/TimeInfo"])["DatasetTimePoints"] == "1"
        data = file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"]
        assert (data.compression, data.compression_opts) == ("gzip", 2)
        assert [size % step for size, step in zip(data.shape, data.chunks, strict=True)] == [0] * 3
        assert (data[5:].any(), data[:, 37:].any(), data[:, :, 53:].any()) == (False,) * 3


def test_the_extents_are_outer_edges(tmp_path):
    with write(tmp_path, layer_of(example("uint8"))) as file:
        image = texts(file["DataSetInfo/Image"])
        assert image["ExtMax0"] == f"{53 * 0.004:.9f}"
        assert image["ExtMax2"] == f"{5 * 0.04:.9f}"


def test_without_a_voxel_size_there_is_no_unit(tmp_path):
    with write(tmp_path, layer_of(example("uint8"), voxel_size=None)) as file:
        image = texts(file["DataSetInfo/Image"])
        assert ("Unit" in image, image["ExtMax0"]) == (False, "53.000000000")


@pytest.mark.parametrize(
    ("image", "labels", "stored"),
    [
        ("uint8", "uint8", "uint8"),
        ("uint8", "uint16", "uint16"),
        ("uint16", "uint8", "uint16"),
        ("float32", "uint8", "float32"),
        ("int16", "uint16", "float32"),
    ],
)
def test_all_channels_have_one_type(tmp_path, image, labels, stored):
    volumes = [example(image), example_labels(labels)]
    with write(tmp_path, layer_of(volumes[0]), layer_of(volumes[1], CLASSES)) as file:
        for number, volume in enumerate(volumes):
            found = channel(file, number)
            assert found.dtype == stored
            np.testing.assert_array_equal(found, volume)
        assert texts(file["DataSetInfo/Channel 1"])["Name"] == "labels"


def test_labels_have_the_colours_of_their_classes(tmp_path):
    with write(
        tmp_path, layer_of(example("uint8")), layer_of(example_labels("uint8"), CLASSES)
    ) as (file):
        colours = file["DataSetInfo/Channel 1"]
        attributes = texts(colours)
        assert (attributes["ColorMode"], attributes["ColorRange"]) == (
            "TableColor",
            "0.000 255.000",
        )
        table = np.array(colours["ColorTable"][()].tobytes().split(), float).reshape(256, 3)
        assert colours["ColorTable"].dtype == "S1"
        assert attributes["ColorTableLength"] == "256"
        np.testing.assert_allclose(table[2] * 255, CLASSES[1].colour, atol=0.2)
        assert table[0].tolist() == [0, 0, 0]
        assert texts(file["DataSetInfo/Channel 0"])["Color"] == "1.000 1.000 1.000"


@pytest.mark.parametrize(
    ("image", "stored"), [("uint8", "uint8"), ("uint16", "uint16"), ("float32", "float32")]
)
def test_each_class_is_a_channel_to_make_a_surface_of(tmp_path, image, stored):
    labels = example_labels("uint8")
    with write(tmp_path, layer_of(example(image)), layer_of(labels, CLASSES)) as file:
        named = [each.name for each in CLASSES]
        assert names_of_channels(file) == ["image", "labels", *named]
        assert labels_channel(file) == ImsWriter.LABELS_CHANNEL
        for number, each in enumerate(CLASSES, start=2):
            found = channel(file, number)
            assert found.dtype == stored
            np.testing.assert_array_equal(found, 255 * (labels == each.value).astype(int))
            told = texts(file[f"DataSetInfo/Channel {number}"])
            assert (told["ColorMode"], told["ColorRange"]) == ("BaseColor", "0.000 255.000")
            colour = np.array(told["Color"].split(), float)
            np.testing.assert_allclose(colour * 255, each.colour, atol=0.2)


@pytest.mark.parametrize("case", ["to edit", "objects", "too many"])
def test_classes_are_no_channels_of_their_own(tmp_path, case):
    many = tuple(LabelClass(value, f"c{value}", (1, 2, 3)) for value in range(1, 52))
    classes = {"to edit": CLASSES, "objects": (), "too many": many}[case]
    labels = layer_of(example_labels("uint8"), classes, name="labels")
    with write(tmp_path, layer_of(example("uint8")), labels, to_edit=case == "to edit") as file:
        assert names_of_channels(file) == ["image", "labels"]


@pytest.mark.parametrize("classes", [(), (LabelClass(300, "cells", (1, 2, 3)),)])
def test_labels_that_a_table_cannot_hold_have_one_colour(tmp_path, classes):
    labels = 150 * example_labels("uint16")
    with write(tmp_path, None, layer_of(labels, classes)) as file:
        attributes = texts(file["DataSetInfo/Channel 0"])
    assert (attributes["ColorMode"], attributes["ColorRange"]) == ("BaseColor", "0.000 300.000")


def test_a_long_description_is_a_dataset(tmp_path):
    classes = tuple(LabelClass(value, f"organelle {value}", (1, 2, 3)) for value in range(1, 100))
    with write(tmp_path, None, layer_of(example_labels("uint8"), classes)) as file:
        description = file["DataSetInfo/Channel 0/Description"][()].tobytes().decode()
    assert description.startswith("1 organelle 1, 2 organelle 2, ")


@pytest.mark.parametrize(
    ("shape", "shapes"),
    [
        # Axes of even length are halved together, short ones stay.
        ((101, 203, 302), [(101, 203, 302), (50, 101, 151)]),
        ((3, 2001, 1001), [(3, 2001, 1001), (3, 1000, 500), (3, 500, 250)]),
        ((1, 1, 2**21 + 1), [(1, 1, 2**21 + 1), (1, 1, 2**20)]),
        ((5, 37, 53), [(5, 37, 53)]),
    ],
)
def test_levels_are_halved_until_they_are_small(shape, shapes):
    assert level_shapes(shape, 1) == shapes


@pytest.fixture
def large():
    """Return noise of which every axis is halved, none of them even."""
    return np.random.default_rng(0).integers(0, 256, (101, 103, 107), "uint8")


def test_coarser_intensities_are_means_rounded_down(tmp_path, large):
    with write(tmp_path, layer_of(large)) as file:
        blocks = large[:100, :102, :106].reshape(50, 2, 51, 2, 53, 2).astype(int)
        expected = blocks.sum(axis=(1, 3, 5)) // 8
        np.testing.assert_array_equal(channel(file, 0, 1), expected)


def test_coarser_floats_are_means(tmp_path, large):
    with write(tmp_path, layer_of(large.astype("float32") / 255)) as file:
        blocks = large[:100, :102, :106].reshape(50, 2, 51, 2, 53, 2)
        np.testing.assert_allclose(
            channel(file, 0, 1), blocks.mean(axis=(1, 3, 5)) / 255, rtol=1e-5
        )


def test_coarser_labels_are_one_value_of_each_block(tmp_path, large):
    labels = np.where(large > 200, 9, large % 3).astype("uint8")
    with write(tmp_path, layer_of(large), layer_of(labels, CLASSES)) as file:
        coarse = labels[:100:2, :102:2, :106:2]
        np.testing.assert_array_equal(channel(file, 1, 1), coarse)
        np.testing.assert_array_equal(channel(file, 3, 1), np.where(coarse == 2, 255, 0))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_histograms_count_the_voxels_without_padding(tmp_path, large, dtype):
    with write(tmp_path, layer_of(large.astype(dtype))) as file:
        for level in range(2):
            volume = channel(file, 0, level)
            group = file[f"DataSet/ResolutionLevel {level}/TimePoint 0/Channel 0"]
            histogram = group["Histogram"][()]
            assert (histogram.dtype, texts(group)["HistogramMax"]) == (np.uint64, "255.000")
            np.testing.assert_array_equal(
                histogram, np.bincount(volume.astype(int).ravel(), minlength=256)
            )


def test_what_is_not_a_finite_number_becomes_0(tmp_path):
    volume = example("float32")
    volume[0, 0, :3] = np.nan, np.inf, -np.inf
    with write(tmp_path, layer_of(volume)) as file:
        assert channel(file, 0)[0, 0, :3].tolist() == [0, 0, 0]


def test_a_constant_volume_has_a_histogram(tmp_path):
    with write(tmp_path, layer_of(np.full((2, 3, 4), 0.5, "float32"))) as file:
        group = file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"]
        assert (group["Histogram"][0], texts(group)["HistogramMin"]) == (24, "0.500")


def test_large_slices_are_read_in_parts(tmp_path, monkeypatch, large):
    monkeypatch.setattr("exporters.blocks._BUFFER_BYTES", 1)
    wide = np.tile(large[:3], (1, 6, 1))
    with write(tmp_path, layer_of(wide, voxel_size=VOXEL_SIZE)) as file:
        np.testing.assert_array_equal(channel(file, 0), wide)


def test_one_slice_makes_a_volume(tmp_path):
    with write(tmp_path, layer_of(example("uint8")[:1])) as file:
        assert file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data"].chunks[0] == 1
        np.testing.assert_array_equal(channel(file, 0), example("uint8")[:1])


@pytest.mark.parametrize("limit", [100, 10_000, 1_000_000, 1_500_000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, large, limit):
    """Whether it is noticed at a block, at a coarser level, or at the end."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DiskFullError):
            ImsWriter().write(tmp_path / "a.ims", layer_of(large), layer_of(large, CLASSES))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("share", [0.0, 1e-6, 0.5])
def test_values_are_counted_however_rare(dtype, share):
    rng = np.random.default_rng(0)
    values = np.where(rng.random((3, 501, 701)) < share, rng.integers(0, 256, 1), 7).astype(dtype)
    values[1, 2, 3] = np.iinfo(dtype).max
    expected = np.bincount(values.ravel(), minlength=np.iinfo(dtype).max + 1)
    np.testing.assert_array_equal(value_counts(values), expected)


def test_many_values_are_counted():
    values = np.random.default_rng(0).integers(0, 2**16, (3, 400, 401)).astype("uint16")
    expected = np.bincount(values.ravel(), minlength=2**16)
    np.testing.assert_array_equal(value_counts(values), expected)
