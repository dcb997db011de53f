import gzip
import json
import resource
import struct

import numpy as np
import pytest

from biosegment.errors import DiskFullError
from biosegment.geometry import Roi, VoxelSize
from exporters import n5
from exporters.n5 import N5Writer
from exporters.testing import (
    CLASSES,
    SHAPE,
    VOXEL_SIZE,
    WriterContract,
    example,
    example_labels,
    layer_of,
)
from importers.base import Choice
from importers.detect import open_volume


def attributes(path):
    return json.loads((path / "attributes.json").read_text())


def blocks(path):
    """Yield place and values (z, y, x) of the blocks of a dataset by N5's specification."""
    facts = attributes(path)
    assert facts["compression"]["type"] == "gzip"
    dtype = np.dtype(facts["dataType"]).newbyteorder(">")
    for file in path.glob("*/*/*"):
        grid = [int(part) for part in file.relative_to(path).parts]
        content = file.read_bytes()
        mode, axes, *sides = struct.unpack_from(">HH3I", content)
        assert (mode, axes) == (0, 3)
        corner = [number * side for number, side in zip(grid, facts["blockSize"], strict=True)]
        values = np.frombuffer(gzip.decompress(content[16:]), dtype)
        # The first axis is x, and varies fastest.
        yield corner[::-1], values.reshape(sides[::-1])


def read(path):
    """Return voxels and voxel size of a dataset, read by the specification alone."""
    facts = attributes(path)
    volume = np.zeros(facts["dimensions"][::-1], facts["dataType"])
    for corner, values in blocks(path):
        places = zip(corner, values.shape, strict=True)
        volume[tuple(slice(at, at + side) for at, side in places)] = values
    if "resolution" not in facts:
        return volume, None
    assert facts["units"] == ["nm"] * 3
    return volume, VoxelSize(*facts["resolution"][::-1])


class TestN5Writer(WriterContract):
    writer = N5Writer

    def image(self, path):
        return read(path / "image" / "s0")

    def labels(self, path):
        return read(path / "labels" / "s0")

    def names(self, path):
        told = json.loads(attributes(path / "labels")["label_names"])
        return {int(value): name for value, name in told.items()}


SIZE = VoxelSize(6, 5, 4)


@pytest.fixture
def large(tmp_path):
    """Write noise of which every axis is halved, all of them odd; return it with its labels."""
    image = np.random.default_rng(0).integers(0, 250, (71, 601, 103)).astype("uint16")
    labels = np.where(image > 200, 300, image % 3).astype("uint16")
    path = tmp_path / "a.n5"
    N5Writer().write(path, layer_of(image, (), SIZE), layer_of(labels, CLASSES, SIZE))
    return path, image, labels


def test_blocks_lie_where_the_specification_has_them(large):
    path, image, _ = large
    assert attributes(path)["n5"].split(".")[0] == "2"
    assert attributes(path / "image/s0")["blockSize"] == [103, 128, 32]
    sides = {values.shape for _, values in blocks(path / "image/s0")}
    assert sides == {(z, y, 103) for z in (32, 7) for y in (128, 89)}
    np.testing.assert_array_equal(read(path / "image/s0")[0], image)


def test_coarser_levels_are_means_of_intensities_and_single_values_of_labels(large):
    path, image, labels = large
    coarse, _ = read(path / "image/s1")
    assert coarse.shape == (36, 301, 52)
    blocks = image[:70, :600, :102].reshape(35, 2, 300, 2, 51, 2).mean(axis=(1, 3, 5))
    np.testing.assert_array_equal(coarse[:35, :300, :51], np.floor(blocks + 0.5))
    np.testing.assert_array_equal(read(path / "labels/s1")[0], labels[::2, ::2, ::2])


def test_levels_that_do_not_fit_in_memory_are_made_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(n5, "_STEP", (3, 128, 128))
    monkeypatch.setattr("exporters.blocks._BUFFER_BYTES", 1)
    image = np.random.default_rng(0).integers(0, 250, (9, 601, 103), "uint8")
    N5Writer().write(tmp_path / "a.n5", layer_of(image, (), SIZE), None)
    np.testing.assert_array_equal(read(tmp_path / "a.n5/image/s0")[0], image)
    coarse, _ = read(tmp_path / "a.n5/image/s1")
    blocks = image[:8, :600, :102].reshape(4, 2, 300, 2, 51, 2).mean(axis=(1, 3, 5))
    np.testing.assert_array_equal(coarse[:4, :300, :51], np.floor(blocks + 0.5))


def test_groups_tell_what_each_program_looks_for(large):
    path, _, labels = large
    facts = attributes(path / "labels")
    # Paintera.
    assert facts["multiScale"] is True
    assert (facts["resolution"], facts["maxId"]) == ([4, 5, 6], labels.max())
    # The N5 viewer of Fiji, and webKnossos.
    assert facts["scales"] == [[1, 1, 1], [2, 2, 2]]
    assert facts["pixelResolution"] == {"unit": "nm", "dimensions": [4, 5, 6]}
    assert (facts["axes"], facts["units"]) == (["x", "y", "z"], ["nm"] * 3)
    # OpenOrganelle.
    levels = facts["multiscales"][0]["datasets"]
    assert [level["path"] for level in levels] == ["s0", "s1"]
    assert levels[1]["transform"] == {
        "axes": ["z", "y", "x"],
        "units": ["nm"] * 3,
        "scale": [12, 10, 8],
        "translate": [3, 2.5, 2],
    }
    coarse = attributes(path / "labels/s1")
    assert (coarse["downsamplingFactors"], coarse["axes"]) == ([2, 2, 2], ["x", "y", "z"])
    # It would be that of the level for some programs, of the full resolution for others.
    assert "resolution" not in coarse


@pytest.mark.parametrize(("level", "times"), [("s0", 1), ("s1", 2)])
def test_an_import_reads_it_back(large, level, times):
    path, _, labels = large
    with open_volume(path, Choice(dataset=f"labels/{level}")) as reader:
        assert reader.info.voxel_size.zyx == pytest.approx([times * edge for edge in SIZE.zyx])
        found = reader.read(Roi.whole(reader.info.shape))
    np.testing.assert_array_equal(found, labels[::times, ::times, ::times])


def test_an_unknown_voxel_size_is_nowhere(tmp_path):
    path = tmp_path / "a.n5"
    N5Writer().write(path, layer_of(example("uint8"), voxel_size=None), None)
    for folder in ("image", "image/s0"):
        told = {"resolution", "units", "pixelResolution", "transform", "multiscales"}
        assert told.isdisjoint(attributes(path / folder))
    with open_volume(path) as reader:
        assert (reader.info.shape, reader.info.voxel_size) == (SHAPE, None)


def test_numbers_that_are_negative_or_broken_survive(tmp_path):
    values = np.linspace(-3, 3, np.prod(SHAPE)).reshape(SHAPE).astype("float64")
    N5Writer().write(tmp_path / "a.n5", layer_of(values, (), VOXEL_SIZE), None)
    np.testing.assert_array_equal(read(tmp_path / "a.n5/image/s0")[0], values)


@pytest.mark.parametrize("limit", [10, 1000, 50_000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, limit):
    """Whether it is noticed at attributes or at a block."""
    noise = np.random.default_rng(1).integers(0, 256, (5, 500, 500)).astype("uint8")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DiskFullError):
            N5Writer().write(tmp_path / "a.n5", layer_of(noise), layer_of(noise, CLASSES))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_read_is_no_error_of_the_disk(tmp_path):
    layer = layer_of(example_labels("uint8"), CLASSES)

    def fail(roi):
        raise ValueError("a damaged chunk")

    broken = type(layer)("labels", SHAPE, layer.dtype, None, fail)
    with pytest.raises(ValueError, match="a damaged chunk"):
        N5Writer().write(tmp_path / "a.n5", None, broken)
    assert list(tmp_path.iterdir()) == []
