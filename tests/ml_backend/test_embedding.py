import numpy as np
import pytest

from ml_backend.strategies import Pool
from ml_backend.strategies.embedding import draw, kmeans, squared_distances, take_k_center
from ml_backend.strategies.selection import Selection

LINE = np.array([[0.0], [1.0], [2.0], [10.0], [11.0]])


def test_squared_distances_by_hand():
    points = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(squared_distances(points, points), [[0, 25], [25, 0]])


def test_distances_far_from_the_origin():
    points = 1e6 + np.array([[0.0], [1e-3]])
    assert squared_distances(points, points)[0, 1] == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_centroids_are_means_of_clusters_largest_first(seed):
    centroids = kmeans(LINE, 2, np.random.default_rng(seed))
    np.testing.assert_allclose(centroids, [[1.0], [10.5]])


@pytest.mark.parametrize("seed", range(5))
def test_weights_pull_centroids(seed):
    weights = np.array([0.0, 1.0, 0.0, 3.0, 1.0])
    centroids = kmeans(LINE, 2, np.random.default_rng(seed), weights)
    np.testing.assert_allclose(centroids, [[10.25], [1.0]])


def test_as_many_centroids_as_points():
    centroids = kmeans(LINE, 5, np.random.default_rng(0))
    np.testing.assert_array_equal(np.sort(centroids, axis=0), LINE)


def test_more_centroids_than_distinct_points():
    centroids = kmeans(np.ones((4, 2)), 3, np.random.default_rng(0))
    np.testing.assert_array_equal(centroids, np.ones((3, 2)))


def test_draws_follow_the_weights():
    rng = np.random.default_rng(0)
    drawn = np.bincount([draw(np.array([0.0, 1.0, 3.0]), rng) for _ in range(1000)], minlength=3)
    assert drawn[0] == 0
    # Four standard deviations of a binomial count.
    assert abs(drawn[2] - 750) < 4 * np.sqrt(1000 * 0.75 * 0.25)


def test_k_center_takes_the_farthest_from_labelled_and_chosen():
    """From a labelled 0: 11 is farthest, then 2 (4 away from 0, against 1 of 10 from 11)."""
    selection = Selection(Pool(5, (), batch=2))
    gaps = take_k_center(selection, LINE, [np.zeros(1, np.float32)])
    np.testing.assert_allclose(gaps, [0, 1, 0, 1, 0])
    assert np.argsort(selection.scores(then=np.zeros(5)))[:2].tolist() == [4, 2]


def test_k_center_from_nothing_labelled_starts_far_from_the_mean():
    """The mean is 4.8."""
    selection = Selection(Pool(5, (), batch=2))
    take_k_center(selection, LINE, [])
    assert np.argsort(selection.scores(then=np.zeros(5)))[:2].tolist() == [4, 0]
