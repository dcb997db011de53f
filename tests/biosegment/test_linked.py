import pickle

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from biosegment.errors import LinkBrokenError, LinkError
from biosegment.geometry import Roi, VoxelSize
from biosegment.linked import Link, LinkedArray
from biosegment.store import VolumeStore
from importers.convert import import_labels, import_volume
from importers.testing import SHAPE, example

ROI = Roi(1, 2, 3, 2, 20, 30)


def written(folder, kind):
    """Write the example with an independent library; return a link to it."""
    volume = example("uint16")
    if kind == "tiff":
        tifffile.imwrite(folder / "a.tif", volume, photometric="minisblack", tile=(16, 16))
        return Link("tiff", str(folder / "a.tif"))
    if kind == "hdf5":
        with h5py.File(folder / "a.h5", "w") as file:
            file.create_dataset("t0/raw", data=volume[None, ..., None], chunks=(1, 1, 8, 8, 1))
        return Link("hdf5", str(folder / "a.h5"), "t0/raw", (0, None, None, None, 0))
    group = zarr.open_group(folder / "a.zarr", mode="w")
    group.create_array("s0", data=volume, chunks=(1, 16, 16))
    return Link("zarr", str(folder / "a.zarr"), "s0")


@pytest.mark.parametrize("kind", ["tiff", "hdf5", "zarr"])
def test_a_volume_is_read_where_it_is(tmp_path, kind):
    array = LinkedArray(written(tmp_path, kind))
    assert array.shape == SHAPE
    assert array.dtype == np.uint16
    np.testing.assert_array_equal(array[ROI.slices], example("uint16")[ROI.slices])
    np.testing.assert_array_equal(array[1:2, 3:5], example("uint16")[1:2, 3:5])
    copy = pickle.loads(pickle.dumps(array))
    np.testing.assert_array_equal(copy[ROI.slices], example("uint16")[ROI.slices])


@pytest.mark.parametrize("kind", ["tiff", "hdf5", "zarr"])
def test_a_file_that_is_gone_is_told(tmp_path, kind):
    link = written(tmp_path, kind)
    (tmp_path / link.path).rename(tmp_path / "elsewhere")
    with pytest.raises(LinkBrokenError, match="put it back"):
        LinkedArray(link)


@pytest.fixture
def source(tmp_path):
    written(tmp_path, "tiff")
    return tmp_path / "a.tif"


def test_a_linked_volume_is_a_volume_like_any_other(source, tmp_path):
    size = VoxelSize(40, 5, 4)
    linked = import_volume(source, tmp_path / "data", "a", voxel_size=size, link=True)
    copied = import_volume(source, tmp_path / "other", "a")
    assert linked.shape == SHAPE
    assert linked.dtype == np.uint16
    assert linked.voxel_size == size
    assert linked.window == copied.window
    np.testing.assert_array_equal(linked.read(ROI), copied.read(ROI))
    np.testing.assert_array_equal(linked.read_unit(ROI), copied.read_unit(ROI))
    stored = sum(path.stat().st_size for path in linked.path.rglob("*") if path.is_file())
    assert stored < 3000


def test_a_linked_volume_has_labels_and_another_voxel_size(source, tmp_path):
    store = import_volume(source, tmp_path / "data", "a", link=True)
    tifffile.imwrite(tmp_path / "l.tif", example("uint8") > 90, photometric="minisblack")
    import_labels(tmp_path / "l.tif", store, "truth", ["cell"])
    store.set_voxel_size(VoxelSize(30, 6, 6))
    again = VolumeStore.open(tmp_path / "data", "a")
    assert again.voxel_size == VoxelSize(30, 6, 6)
    np.testing.assert_array_equal(
        again.read_labels("truth", ROI), (example("uint8") > 90)[ROI.slices]
    )
    np.testing.assert_array_equal(again.read(ROI), example("uint16")[ROI.slices])


def test_the_source_of_a_linked_volume_is_never_written(source, tmp_path):
    store = import_volume(source, tmp_path / "data", "a", link=True)
    before = source.read_bytes()
    with pytest.raises(ValueError, match=r"a\.tif"):
        store.write(ROI, np.zeros(ROI.shape, "uint16"))
    assert source.read_bytes() == before


def test_a_source_that_moved_is_told_when_the_volume_is_opened(source, tmp_path):
    import_volume(source, tmp_path / "data", "a", link=True)
    source.unlink()
    with pytest.raises(LinkBrokenError, match=r"a\.tif"):
        VolumeStore.open(tmp_path / "data", "a")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({}, "not cut into tiles"),
        ({"tile": (16, 16), "photometric": "miniswhite"}, "stored inverted"),
    ],
)
def test_what_has_to_be_copied_is_told(tmp_path, options, reason):
    options = {"photometric": "minisblack"} | options
    tifffile.imwrite(tmp_path / "s.tif", example("uint8"), **options)
    with pytest.raises(LinkError, match=reason):
        import_volume(tmp_path / "s.tif", tmp_path / "data", "s", link=True)
    assert not list((tmp_path / "data").rglob("*.zarr"))
