import math

import numpy as np
import pytest

from biosegment.errors import LabelsNotFoundError, ObjectsError
from biosegment.geometry import Roi, VoxelSize
from biosegment.objects import components
from biosegment.objects.centreline import centreline_length
from biosegment.objects.crofton import areas_per_crossing
from biosegment.objects.instances import ObjectsPlan, make_objects
from biosegment.objects.measurements import measure
from biosegment.store import VolumeStore, volume_path

# From cubes to the sections of a serial block-face microscope, 5 times as thick as wide.
SIZES = [VoxelSize(8, 8, 8), VoxelSize(25, 10, 5), VoxelSize(40, 8, 8)]
SHAPE_NM = (1000, 900, 1100)


@pytest.fixture
def volume(tmp_path):
    """Make a volume of some size with objects where a function of places in nm says so."""

    def make(size, *inside, shape_nm=SHAPE_NM):
        shape = [round(length / edge) for length, edge in zip(shape_nm, size.zyx, strict=True)]
        places = [
            (axis + 0.5) * edge for axis, edge in zip(np.indices(shape), size.zyx, strict=True)
        ]
        values = np.zeros(shape, np.uint8)
        for value, each in enumerate(inside, start=1):
            values[each(*places)] = value
        store = VolumeStore.create(volume_path(tmp_path, "a"), shape, "uint16", size)
        z, y, _ = np.indices(shape)
        store.write(Roi.whole(shape), (7 * z + y).astype(np.uint16))
        store.finish((0, 255), {})
        store.create_labels("classes", [f"class {value}" for value in range(1, len(inside) + 2)])
        store.write_labels("classes", Roi.whole(shape), values)
        store.finish_labels("classes")
        make_objects(store, ObjectsPlan("classes"), "objects", lambda *_: None)
        return store

    return make


def ball(centre, radius):
    return lambda *at: sum((a - c) ** 2 for a, c in zip(at, centre, strict=True)) <= radius**2


def box(low, high):
    def inside(*at):
        return np.logical_and.reduce(
            [(a >= b) & (a < c) for a, b, c in zip(at, low, high, strict=True)]
        )

    return inside


def measured(store, **options):
    return measure(store, "objects", lambda *_: None, **options)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_a_ball_is_measured_as_geometry_says(volume, size):
    found = measured(volume(size, ball((500, 450, 500), 300)))
    assert found.volume_um3 == pytest.approx(4 / 3 * math.pi * 0.3**3, rel=0.01)
    assert found.surface_um2 == pytest.approx(4 * math.pi * 0.3**2, rel=0.02)
    assert found.sphericity == pytest.approx(1, abs=0.03)
    np.testing.assert_allclose(found.centroid_um, [[0.5, 0.45, 0.5]], atol=0.005)
    np.testing.assert_allclose(found.axes_um, [[0.6, 0.6, 0.6]], rtol=0.02)
    assert found.touches_border.tolist() == [False]
    assert found.extent_um3 == pytest.approx(1 * 0.9 * 1.1, rel=0.01)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_an_ellipsoid_has_its_axes(volume, size):
    def inside(z, y, x):
        # The longest axis lies between x and y.
        u, v = ((x - 550) + (y - 450)) / math.sqrt(2), ((x - 550) - (y - 450)) / math.sqrt(2)
        return (u / 400) ** 2 + (v / 100) ** 2 + ((z - 500) / 200) ** 2 <= 1

    found = measured(volume(size, inside))
    np.testing.assert_allclose(found.axes_um, [[0.8, 0.4, 0.2]], rtol=0.03)
    np.testing.assert_allclose(found.direction, [[0, 0.707, 0.707]], atol=0.02)
    assert 0.4 < found.sphericity[0] < 0.85


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_flat_sides_are_within_a_few_percent(volume, size):
    found = measured(volume(size, box((200, 200, 200), (800, 600, 600))))
    assert found.volume_um3 == pytest.approx(0.6 * 0.4 * 0.4, rel=1e-6)
    sides = 2 * (0.6 * 0.4 + 0.6 * 0.4 + 0.4 * 0.4)
    # The formula is exact for surfaces that face all ways alike; a box along the grid is its worst.
    assert found.surface_um2 == pytest.approx(sides, rel=0.2)
    low, high = found.boxes[0].T
    np.testing.assert_allclose(low * size.zyx, [200] * 3, atol=max(size.zyx))
    np.testing.assert_allclose((high - low) * size.zyx, [600, 400, 400], atol=1e-6)


def test_surfaces_face_each_direction_alike():
    areas = areas_per_crossing(VoxelSize(1000, 1000, 1000))
    # Published weights of 13 directions for cubes: faces, edges, corners.
    lengths = {1: 0.0457, 2: 0.0369, 3: 0.0351}
    for step, area in areas.items():
        squares = sum(move**2 for move in step)
        assert area * math.sqrt(squares) / 2 == pytest.approx(2 * lengths[squares], abs=2e-4)


def test_objects_at_the_border_are_told_apart(volume):
    store = volume(SIZES[1], box((0, 200, 200), (300, 400, 400)), ball((600, 450, 500), 200))
    found = measured(store)
    assert found.touches_border.tolist() == [True, False]
    assert np.isnan(found.sphericity).tolist() == [True, False]
    # Where the volume cuts it off is no surface: without that side of 0.04 µm² it has 0.28.
    assert found.surface_um2[0] == pytest.approx(0.28, rel=0.2)
    assert found.class_names == ("class 1", "class 2", "class 3")
    assert found.classes.tolist() == [1, 2]


def test_intensities_are_averaged_as_recorded(volume):
    store = volume(SIZES[0], ball((500, 450, 500), 200))
    shape = Roi.whole(store.shape)
    mask = store.read_labels("objects", shape) == 1
    assert measured(store).mean_intensity[0] == pytest.approx(store.read(shape)[mask].mean())


def test_blocks_make_no_difference(volume, monkeypatch):
    store = volume(SIZES[1], ball((500, 450, 500), 300), ball((850, 150, 800), 90))
    whole = measured(store)
    monkeypatch.setattr(components, "SHARD_PX", 32)
    monkeypatch.setattr(components.blocks, "__defaults__", (3 * 32 * 32,))
    parts = measured(store)
    for name in ("voxels", "boxes", "touches_border", "classes"):
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name))
    for name in ("surface_um2", "centroid_um", "axes_um", "direction", "mean_intensity"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-9)


def rod(start, end, radius):
    """All within a radius of the line between two places, rounded at its ends."""
    start, end = np.array(start, float), np.array(end, float)

    def inside(*at):
        along = end - start
        places = np.stack(at, axis=-1) - start
        part = np.clip(places @ along / (along @ along), 0, 1)
        return np.linalg.norm(places - part[..., None] * along, axis=-1) <= radius

    return inside


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("end", [(500, 500, 900), (500, 800, 800), (800, 600, 900)], ids=str)
def test_a_rod_has_its_length_whichever_way_it_points(volume, size, end):
    store = volume(size, rod((500, 500, 200), end, 64))
    length = (math.dist((500, 500, 200), end) + 2 * 64) / 1000
    assert measured(store, centrelines=True).centreline_um[0] == pytest.approx(length, rel=0.06)
    assert measured(store).centreline_um is None


def test_a_bent_object_is_as_long_as_its_middle(volume):
    def half_ring(z, y, x):
        around = np.hypot(x - 500, y - 200)
        return ((around - 350) ** 2 + (z - 500) ** 2 <= 80**2) & (y > 200)

    found = measured(volume(SIZES[0], half_ring), centrelines=True)
    assert found.centreline_um[0] == pytest.approx(math.pi * 0.35, rel=0.06)


def test_one_voxel_has_no_length():
    mask = np.zeros((3, 3, 3), bool)
    mask[1, 1, 1] = True
    assert centreline_length(mask, (1, 1, 1)) == 0


def test_what_cannot_be_measured_is_told(volume, tmp_path):
    store = volume(SIZES[0], ball((500, 450, 500), 200))
    with pytest.raises(ObjectsError, match=r"biosegment objects a --labels classes"):
        measure(store, "classes", lambda *_: None)
    with pytest.raises(LabelsNotFoundError):
        measure(store, "missing", lambda *_: None)


def test_a_volume_without_objects_has_none(volume):
    found = measured(volume(SIZES[0], lambda *at: np.zeros(at[0].shape, bool)), centrelines=True)
    assert (len(found), found.centreline_um.shape) == (0, (0,))
