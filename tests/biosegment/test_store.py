import multiprocessing
import pickle

import numpy as np
import pytest
import zarr
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel

from biosegment.errors import (
    LabelsNotFoundError,
    RegionError,
    VolumeNameError,
    VolumeNotFoundError,
)
from biosegment.geometry import Roi, VoxelSize
from biosegment.store import VolumeStore, volume_path

SHAPE = (3, 300, 530)
VOXEL_SIZE = VoxelSize(40, 5, 4)


@pytest.fixture
def volume():
    return np.random.default_rng(0).integers(0, 60_000, SHAPE, "uint16")


@pytest.fixture
def store(tmp_path, volume):
    store = VolumeStore.create(volume_path(tmp_path, "brain"), SHAPE, "uint16", VOXEL_SIZE)
    for z in range(SHAPE[0]):
        store.write(Roi.slice_of(SHAPE, z), volume[z : z + 1])
    store.finish((10_000, 50_000), {"name": "brain.tif"})
    return store


def test_a_finished_volume_opens_as_it_was_made(tmp_path, store, volume):
    opened = VolumeStore.open(tmp_path, "brain")
    assert opened.name == "brain"
    assert opened.shape == SHAPE
    assert opened.dtype == np.uint16
    assert opened.voxel_size == VOXEL_SIZE
    assert opened.window == (10_000, 50_000)
    assert opened.source == {"name": "brain.tif"}
    np.testing.assert_array_equal(opened.read(Roi.whole(SHAPE)), volume)


@pytest.mark.parametrize(
    "roi", [Roi(1, 2, 3, 1, 10, 20), Roi(0, 250, 250, 3, 20, 270), Roi(2, 299, 0, 1, 1, 530)]
)
def test_a_region_is_a_part_of_the_whole(store, volume, roi):
    np.testing.assert_array_equal(store.read(roi), volume[roi.slices])


def test_writing_a_region_leaves_the_rest(store, volume):
    roi = Roi(1, 200, 200, 1, 100, 100)
    store.write(roi, np.zeros(roi.shape, "uint16"))
    volume[roi.slices] = 0
    np.testing.assert_array_equal(store.read(Roi.whole(SHAPE)), volume)


def test_a_region_that_leaves_the_volume_is_refused(store):
    outside = Roi(2, 0, 0, 2, 1, 1)
    for refused in (
        lambda: store.read(outside),
        lambda: store.read_unit(outside),
        lambda: store.write(outside, np.zeros((2, 1, 1), "uint16")),
    ):
        with pytest.raises(RegionError):
            refused()


def test_an_unfinished_volume_does_not_open(tmp_path):
    VolumeStore.create(volume_path(tmp_path, "half"), SHAPE, "uint8")
    with pytest.raises(VolumeNotFoundError):
        VolumeStore.open(tmp_path, "half")


@pytest.mark.parametrize(
    "name", ["absent", "../../x", "../brain", "a/b", "", ".", "..", "brain\n", "/etc", "x" * 300]
)
def test_only_volumes_of_the_data_root_open(tmp_path, store, name):
    with pytest.raises(VolumeNotFoundError):
        VolumeStore.open(tmp_path / "volumes" if name == "../brain" else tmp_path, name)


def test_a_folder_that_is_no_volume_does_not_open(tmp_path):
    folder = volume_path(tmp_path, "foreign")
    folder.mkdir(parents=True)
    with pytest.raises(VolumeNotFoundError):
        VolumeStore.open(tmp_path, "foreign")
    zarr.open_group(folder, mode="w")
    with pytest.raises(VolumeNotFoundError):
        VolumeStore.open(tmp_path, "foreign")


@pytest.mark.parametrize("name", ["../a", ".a", "-a", "a b", "ä", "a/../b", ""])
def test_a_name_that_could_lead_elsewhere_is_refused(tmp_path, name):
    with pytest.raises(VolumeNameError):
        volume_path(tmp_path, name)


def test_the_window_maps_to_black_and_white(store, volume):
    unit = store.read_unit(Roi.whole(SHAPE))
    assert unit.dtype == np.float32
    expected = ((volume.astype(float) - 10_000) / 40_000).clip(0, 1)
    np.testing.assert_allclose(unit, expected, atol=1e-6)


def test_greys_are_the_rounded_unit_range(store, volume):
    greys = store.to_display(volume)
    assert greys.dtype == np.uint8
    unit = store.read_unit(Roi.whole(SHAPE))
    np.testing.assert_array_equal(greys, np.rint(255 * unit))
    np.testing.assert_array_equal(store.to_display(volume.astype("float32")), greys)


def test_what_is_no_number_is_black(store):
    values = np.array([np.nan, -np.inf, np.inf, 30_000], "float32")
    assert store.to_display(values).tolist() == [0, 0, 255, 128]


def test_an_unknown_voxel_size_stays_unknown(tmp_path):
    store = VolumeStore.create(volume_path(tmp_path, "a"), SHAPE, "uint8")
    store.finish((0, 1), {})
    assert VolumeStore.open(tmp_path, "a").voxel_size is None
    axes = store._group.attrs["ome"]["multiscales"][0]["axes"]
    assert all("unit" not in axis for axis in axes)


@pytest.mark.parametrize("before", [VOXEL_SIZE, None])
def test_a_voxel_size_can_be_corrected(tmp_path, before):
    store = VolumeStore.create(volume_path(tmp_path, "b"), (1, 2, 3), "uint8", before)
    store.finish((0, 1), {})
    store.create_labels("cells", ["cell"])
    store.finish_labels("cells")
    store.set_voxel_size(VoxelSize(30, 4, 3.3))
    assert store.voxel_size == VoxelSize(30, 4, 3.3)
    assert VolumeStore.open(tmp_path, "b").voxel_size == VoxelSize(30, 4, 3.3)
    group = zarr.open_group(volume_path(tmp_path, "b"), mode="r")
    for image in (Image.from_zarr(group), Image.from_zarr(group["labels/cells"])):
        (multiscale,) = image.ome_attributes.multiscales
        assert {axis.unit for axis in multiscale.axes} == {"nanometer"}
        scale = multiscale.datasets[0].coordinateTransformations[0].scale
        assert scale == pytest.approx([30, 4, 3.3])


def test_a_slice_is_one_file(store):
    assert len([path for path in (store.path / "0/c").rglob("*") if path.is_file()]) == SHAPE[0]


def test_labels_are_read_once_they_are_finished(tmp_path, store):
    store.create_labels("truth", ["mitochondria", "vesicles"])
    roi = Roi(1, 10, 20, 1, 30, 40)
    store.write_labels("truth", roi, np.full(roi.shape, 2, "uint8"))
    assert store.label_names == ()
    with pytest.raises(LabelsNotFoundError, match="it has: none"):
        store.read_labels("truth", roi)
    store.finish_labels("truth", {"name": "truth.tif"})
    opened = VolumeStore.open(tmp_path, "brain")
    assert opened.label_names == ("truth",)
    assert opened.class_names("truth") == ("mitochondria", "vesicles")
    assert opened.labels_source("truth") == {"name": "truth.tif"}
    expected = np.zeros(SHAPE, "uint8")
    expected[roi.slices] = 2
    np.testing.assert_array_equal(opened.read_labels("truth", Roi.whole(SHAPE)), expected)


def test_labels_made_anew_replace_the_old_ones(store):
    for value, names in ((1, ["a"]), (0, ["b"])):
        store.create_labels("truth", names)
        store.write_labels("truth", Roi(0, 0, 0, 1, 2, 2), np.full((1, 2, 2), value, "uint8"))
        store.finish_labels("truth")
    assert store.class_names("truth") == ("b",)
    assert store.read_labels("truth", Roi(0, 0, 0, 1, 2, 2)).sum() == 0


def test_several_label_images_stand_side_by_side(store):
    for name in ("truth", "predicted"):
        store.create_labels(name, ["mitochondria"])
        store.finish_labels(name)
    assert store.label_names == ("predicted", "truth")


def test_label_names_and_classes_are_checked(store):
    with pytest.raises(VolumeNameError):
        store.create_labels("../0", ["a"])
    with pytest.raises(ValueError, match="background is the value 0"):
        store.create_labels("truth", ["background", "a"])
    store.create_labels("truth", ["a"])
    with pytest.raises(RegionError):
        store.write_labels("truth", Roi(3, 0, 0, 1, 1, 1), np.zeros((1, 1, 1), "uint8"))


@pytest.mark.parametrize("voxel_size", [VOXEL_SIZE, None])
def test_the_specification_is_kept(tmp_path, voxel_size):
    store = VolumeStore.create(volume_path(tmp_path, "a"), SHAPE, "uint8", voxel_size)
    store.finish((0, 255), {})
    store.create_labels("truth", ["mitochondria"])
    store.finish_labels("truth")
    image = Image.from_zarr(zarr.open_group(store.path, mode="r"))
    multiscale = image.ome_attributes.multiscales[0]
    assert [axis.name for axis in multiscale.axes] == ["z", "y", "x"]
    scale = multiscale.datasets[0].coordinateTransformations[0].scale
    unit = "nanometer" if voxel_size else None
    assert [axis.unit for axis in multiscale.axes] == [unit] * 3
    assert tuple(scale) == (voxel_size.zyx if voxel_size else (1, 1, 1))
    assert image.labels.label_paths == ["truth"]
    label = ImageLabel.from_zarr(zarr.open_group(store.path / "labels/truth", mode="r"))
    assert label.ome_attributes.image_label.properties[0].label_value == 1


def test_a_store_travels_to_other_processes(store, volume):
    copy = pickle.loads(pickle.dumps(store))
    roi = Roi(1, 2, 3, 1, 10, 20)
    np.testing.assert_array_equal(copy.read(roi), volume[roi.slices])
    for method in ("spawn", "fork"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            np.testing.assert_array_equal(
                pool.apply_async(store.read, (roi,)).get(60), volume[roi.slices]
            )
