import numpy as np
import pytest
import zarr

from biosegment.errors import (
    DiskFullError,
    LabelsNotFoundError,
    ObjectsError,
    SegmentationExistsError,
)
from biosegment.geometry import Roi, VoxelSize
from biosegment.levels import MAPS, levels, probability_map
from biosegment.objects import components, instances, masks
from biosegment.objects.instances import ObjectsPlan, is_objects, make_objects, object_classes
from biosegment.ome_zarr import create_image, image_array
from biosegment.store import VolumeStore, volume_path

SHAPE = (24, 60, 70)
SIZE = VoxelSize(20, 10, 10)


def ball(z, y, x, radius_nm):
    places = np.indices(SHAPE)
    far = [
        (axis - centre) * edge
        for axis, centre, edge in zip(places, (z, y, x), SIZE.zyx, strict=True)
    ]
    return np.sqrt(sum(each**2 for each in far)) <= radius_nm


# Two that touch, one beside them that has no neck, and one of another class.
LEFT, RIGHT = ball(12, 20, 18, 120), ball(12, 20, 38, 110)
DROP, OTHER = ball(5, 45, 50, 60), ball(16, 45, 20, 90)
VALUES = np.where(LEFT | RIGHT | DROP, 1, np.where(OTHER, 2, 0)).astype(np.uint8)


@pytest.fixture
def store(tmp_path):
    store = VolumeStore.create(volume_path(tmp_path, "a"), SHAPE, "uint8", SIZE)
    store.finish((0, 255), {})
    store.create_labels("classes", ["cell", "glia: all"])
    store.write_labels("classes", Roi.whole(SHAPE), VALUES)
    store.finish_labels("classes")
    return store


@pytest.fixture
def small(monkeypatch):
    """Files, blocks and boxes as small as if the volume were large."""
    monkeypatch.setattr(components, "SHARD_PX", 16)
    monkeypatch.setattr(components.blocks, "__defaults__", (3 * 16 * 16,))
    monkeypatch.setattr(masks, "_READ_VOXELS", 1000)
    monkeypatch.setattr(masks, "_SIDE", 16)


def made(store, **options):
    stages = {}
    plan = ObjectsPlan("classes", **options)
    count = make_objects(store, plan, "objects", lambda *told: stages.update({told[0]: told[1:]}))
    assert all(done == total for done, total in stages.values())
    return count, store.read_labels("objects", Roi.whole(SHAPE))


def test_each_object_has_a_number(store, small):
    count, image = made(store)
    assert count == 3
    assert [set(np.unique(image[where])) for where in (LEFT | RIGHT, DROP, OTHER)] == [
        {2},
        {1},
        {3},
    ]
    np.testing.assert_array_equal(image > 0, VALUES > 0)
    classes, names = object_classes(store, "objects")
    assert (classes.tolist(), names) == ([0, 1, 1, 2], ("cell", "glia: all"))
    assert is_objects(store, "objects")
    assert not is_objects(store, "classes")
    assert not list(store.path.parent.rglob("*.objects"))


def test_what_touches_is_split_at_its_neck(store, small):
    count, image = made(store, split_distance=30)
    assert count == 4
    assert set(np.unique(image[LEFT & ~RIGHT])) | set(np.unique(image[RIGHT & ~LEFT])) == {2, 3}
    # Cut where the balls meet: few voxels of either lie with the other.
    for one, number in ((LEFT & ~RIGHT, image[12, 20, 18]), (RIGHT & ~LEFT, image[12, 20, 38])):
        assert np.mean(image[one] == number) > 0.98
    np.testing.assert_array_equal(image > 0, VALUES > 0)
    assert object_classes(store, "objects")[0].tolist() == [0, 1, 1, 1, 2]
    deeper, _ = made_again(store, split_distance=110)
    assert deeper == 3


def made_again(store, **options):
    plan = ObjectsPlan("classes", **options)
    count = make_objects(store, plan, "objects", lambda *_: None, overwrite=True)
    return count, store.read_labels("objects", Roi.whole(SHAPE))


def test_too_large_an_object_is_split_on_a_coarser_grid(store, small, monkeypatch):
    _, fine = made(store, split_distance=30)
    monkeypatch.setattr(masks.object_mask, "__defaults__", (4000,))
    count, coarse = made_again(store, split_distance=30)
    assert count == 4
    np.testing.assert_array_equal(coarse > 0, fine > 0)
    assert np.mean(coarse[fine > 0] == fine[fine > 0]) > 0.95


def test_small_parts_are_none(store):
    smaller = np.count_nonzero(RIGHT)
    assert made(store, split_distance=30, min_voxels=smaller)[0] == 1
    count, image = made_again(store, split_distance=30, min_voxels=10)
    assert count == 4
    assert np.bincount(image.ravel())[1:].min() >= 10


def test_splits_where_the_probability_sinks(store, small):
    with pytest.raises(ObjectsError, match="segment a --probabilities"):
        made(store, split_probability=0.3)
    group = zarr.open_group(store.path / "labels" / "classes", mode="r+")
    for name in store.class_names("classes"):
        path = f"{MAPS}/{probability_map(name)}"
        create_image(group.create_group(path), name, SHAPE, np.uint8, SIZE)
        chance = np.where(np.abs(np.indices(SHAPE)[2] - 28) < 2, 150, 250).astype(np.uint8)
        image_array(group, path)[:] = chance
    count, image = made(store, split_probability=0.3)
    assert count == 4
    left, right = image[12, 20, 18], image[12, 20, 38]
    assert left != right
    assert (image[:, :, :26][LEFT[:, :, :26]] == left).all()
    assert (image[:, :, 31:][RIGHT[:, :, 31:]] == right).all()
    assert made_again(store, split_probability=0.5)[0] == 3


def test_coarser_levels_are_made(tmp_path):
    store = VolumeStore.create(volume_path(tmp_path, "wide"), (2, 600, 600), "uint8", SIZE)
    store.finish((0, 255), {})
    store.create_labels("classes", ["cell"])
    store.write_labels("classes", Roi(0, 100, 100, 2, 50, 50), np.ones((2, 50, 50), np.uint8))
    store.finish_labels("classes")
    make_objects(store, ObjectsPlan("classes"), "objects", lambda *_: None)
    fine, coarse = levels(store, "objects")
    assert (fine.dtype, coarse.shape) == (np.uint16, (2, 300, 300))
    assert coarse.read(Roi.whole(coarse.shape)).max() == 1


def test_what_is_there_stays(store):
    made(store)
    with pytest.raises(SegmentationExistsError):
        made(store)
    with pytest.raises(SegmentationExistsError):
        make_objects(store, ObjectsPlan("classes"), "classes", lambda *_: None, overwrite=True)
    with pytest.raises(ObjectsError, match="objects are objects already"):
        make_objects(store, ObjectsPlan("objects"), "more", lambda *_: None)
    with pytest.raises(LabelsNotFoundError):
        make_objects(store, ObjectsPlan("missing"), "more", lambda *_: None)


def test_an_unknown_voxel_size_does_not_split(tmp_path):
    store = VolumeStore.create(volume_path(tmp_path, "a"), SHAPE, "uint8", None)
    store.finish((0, 255), {})
    store.create_labels("classes", ["cell"])
    store.finish_labels("classes")
    with pytest.raises(ObjectsError, match="voxel size of a is not known"):
        made(store, split_distance=30)
    assert made(store)[0] == 0


def test_a_full_disk_leaves_nothing(store, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(instances._Objects, "_split_in", full)
    with pytest.raises(DiskFullError):
        made(store)
    assert store.label_names == ("classes",)
    assert not (store.path / "labels" / "objects").exists()
    assert not list(store.path.parent.rglob("*.objects"))
