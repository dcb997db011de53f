import numpy as np
import pytest
import tifffile
import zarr

from biosegment.errors import LabelsNotFoundError, RegionError
from biosegment.geometry import Roi, VoxelSize
from biosegment.levels import label_colours, levels
from biosegment.linked import Link
from biosegment.store import VolumeStore, volume_path

SHAPE = (5, 701, 600)
ROI = Roi(1, 20, 30, 2, 41, 50)


@pytest.fixture
def store(tmp_path):
    """A volume with labels in two resolutions, the coarser one half as deep."""
    store = VolumeStore.create(volume_path(tmp_path, "a"), SHAPE, "uint8", VoxelSize(6, 5, 4))
    fill(store)
    return store


def fill(store):
    volume = np.random.default_rng(0).integers(0, 200, SHAPE, "uint8")
    store.write(Roi.whole(SHAPE), volume)
    for step in store.pyramid_steps():
        store.build_pyramid(*step)
    store.finish((0, 255), {})
    add_labels(store)


def add_labels(store):
    store.create_labels("cells", ["cell"], "uint16")
    values = np.random.default_rng(1).integers(0, 500, SHAPE, "uint16")
    store.write_labels("cells", Roi.whole(SHAPE), values)
    store.finish_labels("cells")


def test_a_volume_has_levels(store):
    fine, coarse = levels(store)
    assert (fine.shape, fine.factors, fine.voxel_size) == (SHAPE, (1, 1, 1), VoxelSize(6, 5, 4))
    assert (coarse.shape, coarse.factors) == ((3, 351, 300), (2, 2, 2))
    assert coarse.voxel_size == VoxelSize(12, 10, 8)
    np.testing.assert_array_equal(fine.read(ROI), store.read(ROI))
    block = store.read(Roi(2, 40, 60, 2, 2, 2))
    assert coarse.read(Roi(1, 20, 30, 1, 1, 1)).item() == pytest.approx(block.mean(), abs=0.5)


def test_labels_have_levels_that_keep_the_first_value(store):
    fine, coarse = levels(store, "cells")
    assert (fine.dtype, coarse.dtype) == (np.uint16, np.uint16)
    assert coarse.shape == levels(store)[1].shape
    whole = store.read_labels("cells", Roi.whole(SHAPE))
    np.testing.assert_array_equal(coarse.read(ROI), whole[::2, ::2, ::2][ROI.slices])


def test_a_voxel_size_set_later_scales_the_levels(store):
    store.set_voxel_size(VoxelSize(60, 7, 7))
    assert [level.factors for level in levels(store)] == [(1, 1, 1), (2, 2, 2)]
    assert levels(store)[1].voxel_size == VoxelSize(120, 14, 14)
    assert levels(store, "cells")[1].voxel_size == VoxelSize(120, 14, 14)


def test_an_unknown_voxel_size_stays_unknown(tmp_path):
    store = VolumeStore.create(volume_path(tmp_path, "a"), SHAPE, "uint8")
    fill(store)
    assert [level.factors for level in levels(store)] == [(1, 1, 1), (1, 2, 2)]
    assert levels(store)[1].voxel_size is None


def test_a_region_of_the_full_resolution_is_shown_whole(store):
    fine, coarse = levels(store)
    assert fine.showing(ROI) == ROI
    assert coarse.showing(ROI) == Roi(0, 10, 15, 2, 21, 25)
    assert coarse.showing(Roi.whole(SHAPE)) == Roi.whole(coarse.shape)


def test_a_region_that_leaves_the_level_is_refused(store):
    with pytest.raises(RegionError):
        levels(store)[1].read(Roi(2, 0, 0, 2, 1, 1))


def test_labels_that_are_not_finished_have_none(store):
    store.create_labels("half", ["cell"])
    with pytest.raises(LabelsNotFoundError, match="it has: cells"):
        levels(store, "half")


def test_a_linked_volume_has_one_level(tmp_path):
    volume = np.random.default_rng(2).integers(0, 200, SHAPE, "uint8")
    tifffile.imwrite(tmp_path / "a.tif", volume, tile=(64, 64))
    link = Link("tiff", str(tmp_path / "a.tif"))
    store = VolumeStore.create_linked(volume_path(tmp_path, "a"), link, VoxelSize(6, 5, 4))
    store.finish((0, 255), {})
    add_labels(store)
    (level,) = levels(store)
    assert (level.shape, level.voxel_size) == (SHAPE, VoxelSize(6, 5, 4))
    np.testing.assert_array_equal(level.read(ROI), volume[ROI.slices])
    assert levels(store, "cells")[1].shape == (3, 351, 300)


def test_colours_are_those_that_the_label_image_names(store):
    assert label_colours(store, "cells") == {}
    group = zarr.open_group(store.path / "labels/cells")
    ome = group.attrs["ome"]
    # A colour is recommended by the specification, not demanded.
    ome["image-label"]["colors"] = [
        {"label-value": 1, "rgba": [1, 171, 254, 128]},
        {"label-value": 2},
    ]
    group.attrs["ome"] = ome
    assert label_colours(store, "cells") == {1: "#01abfe"}
