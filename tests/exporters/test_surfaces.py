from dataclasses import replace

import numpy as np
import pytest

from biosegment.geometry import VoxelSize
from exporters.base import LabelClass
from exporters.object_colours import object_colour
from exporters.surfaces import surfaces
from exporters.testing import CLASSES, example_instances, layer_of

SIZE = VoxelSize(20, 8, 10)
UM = np.array(SIZE.zyx) / 1000
BALL_UM = 0.3


@pytest.fixture(scope="module")
def volume():
    """Return a ball of 0.3 um, value 1, and a box of known size, value 2, on uneven axes."""
    shape = (40, 90, 130)
    z, y, x = (
        (index + 0.5) * edge - centre
        for index, edge, centre in zip(np.indices(shape), UM, (0.4, 0.36, 0.35), strict=True)
    )
    array = (z**2 + y**2 + x**2 < BALL_UM**2).astype("uint8")
    array[7:30, 20:70, 80:125] = 2
    return array


def found(array, classes=CLASSES, size=SIZE, **options):
    return list(surfaces(layer_of(array, classes, size, name="labels"), **options))


def is_closed(mesh):
    """Tell whether every edge has a triangle on both sides, that turn the same way round."""
    corners = mesh.faces
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    there, count = np.unique(edges, axis=0, return_counts=True)
    back = np.unique(edges[:, ::-1], axis=0)
    return (count == 1).all() and np.array_equal(there, back)


def enclosed(mesh):
    """Return the volume inside; below 0 if triangles turn inwards."""
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return np.einsum("ij,ij->", a, np.cross(b, c)) / 6


def area(mesh):
    a, b, c = (mesh.vertices[mesh.faces[:, corner]] for corner in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2


def test_a_ball_has_its_volume_area_and_place(volume):
    ball, _ = found(volume)
    assert ball.of == CLASSES[0]
    assert is_closed(ball.mesh)
    assert enclosed(ball.mesh) == pytest.approx(4 / 3 * np.pi * BALL_UM**3, rel=0.02)
    assert area(ball.mesh) == pytest.approx(4 * np.pi * BALL_UM**2, rel=0.05)
    # x, y, z from the outer corner of the volume.
    np.testing.assert_allclose(ball.mesh.vertices.mean(axis=0), [0.35, 0.36, 0.4], atol=0.004)
    lengths = np.linalg.norm(ball.mesh.vertices - [0.35, 0.36, 0.4], axis=1)
    np.testing.assert_allclose(lengths, BALL_UM, atol=0.02)


def test_a_box_has_its_volume_area_and_place(volume):
    _, box = found(volume)
    z, y, x = np.array([23, 50, 45]) * UM
    assert is_closed(box.mesh)
    assert enclosed(box.mesh) == pytest.approx(z * y * x, rel=0.02)
    assert area(box.mesh) == pytest.approx(2 * (z * y + z * x + y * x), rel=0.05)
    # Half of the smallest edge of a voxel, x, y, z.
    np.testing.assert_allclose(box.mesh.bounds[0], (np.array([7, 20, 80]) * UM)[::-1], atol=0.004)
    np.testing.assert_allclose(box.mesh.bounds[1], (np.array([30, 70, 125]) * UM)[::-1], atol=0.004)


def test_what_the_volume_cuts_off_is_closed_there():
    (whole,) = found(np.ones((3, 4, 5), "uint8"))
    assert is_closed(whole.mesh)
    np.testing.assert_allclose(whole.mesh.bounds, [[0, 0, 0], [0.05, 0.032, 0.06]], atol=0.004)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_voxels_that_touch_in_any_way_make_a_closed_surface(share):
    noise = np.random.default_rng(0).random((15, 16, 17)) < share
    (surface,) = found(noise.astype("uint8"))
    assert is_closed(surface.mesh)
    assert enclosed(surface.mesh) > 0


def test_a_single_voxel_does_not_vanish():
    array = np.zeros((5, 5, 5), "uint8")
    array[2, 2, 2] = 1
    (dot,) = found(array)
    assert is_closed(dot.mesh)
    assert (np.ptp(dot.mesh.vertices, axis=0) > 0.5 * UM[::-1]).all()


@pytest.mark.parametrize("most", [20_000, 3000])
def test_large_objects_are_seen_on_a_coarser_grid(volume, most):
    ball, box = found(volume, most_voxels=most)
    z, y, x = np.array([23, 50, 45]) * UM
    for surface, size in ((ball, 4 / 3 * np.pi * BALL_UM**3), (box, z * y * x)):
        assert is_closed(surface.mesh)
        # Any voxel inside counts, so they grow, by less than a voxel of that grid on each side.
        assert 1 <= enclosed(surface.mesh) / size < 1.4
    fine = sum(len(surface.mesh.faces) for surface in found(volume))
    assert len(ball.mesh.faces) + len(box.mesh.faces) < fine / 2
    np.testing.assert_allclose(ball.mesh.vertices.mean(axis=0), [0.35, 0.36, 0.4], atol=0.02)


def test_no_more_is_read_than_the_box_of_an_object(volume):
    regions = []
    layer = layer_of(volume, CLASSES, SIZE)

    def read(roi):
        regions.append(roi)
        return layer.read(roi)

    assert len(list(surfaces(replace(layer, read=read)))) == 2
    assert {roi.depth for roi in regions} == {1}
    assert [roi.shape for roi in regions[-23:]] == [(1, 50, 45)] * 23


def test_numbered_objects_are_called_by_their_numbers():
    objects = found(example_instances("uint32"), ())
    assert len(objects) == 336
    assert objects[0].of == LabelClass(1000, "1000", object_colour(1000))
    assert all(is_closed(each.mesh) for each in objects)


def test_without_a_voxel_size_lengths_are_voxels():
    (whole,) = found(np.ones((3, 4, 5), "uint8"), size=None)
    np.testing.assert_allclose(whole.mesh.bounds, [[0, 0, 0], [5, 4, 3]], atol=0.21)


def test_what_is_not_there_has_no_surface():
    assert found(np.zeros((3, 4, 5), "uint8")) == []
