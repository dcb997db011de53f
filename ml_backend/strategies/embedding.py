"""Geometry of tiles as points: distances, k-means, k-center.

References
----------
D. Arthur, S. Vassilvitskii: k-means++: the advantages of careful seeding. SODA 2007.
O. Sener, S. Savarese: Active learning for convolutional neural networks: a core-set approach.
ICLR 2018, https://arxiv.org/abs/1708.00489
"""

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ml_backend.strategies.selection import Selection

Points = NDArray[np.float64]
"""N points of D coordinates, shape (N, D)."""

MAX_ITERATIONS: Final = 100
"""Lloyd iterations after which k-means takes what it has."""


def stacked(rows: Iterable[NDArray[np.float32]]) -> Points:
    """Return rows, each (D,), as points; (0, 0) of none."""
    points = [np.asarray(row, np.float64) for row in rows]
    return np.stack(points) if points else np.empty((0, 0))


def squared_distances(points: Points, others: Points) -> Points:
    """Return ||x - y||^2 of every point x and other point y, shape (N, M)."""
    # Around their mean the numbers are small, and less is lost in the differences.
    mean = points.mean(axis=0)
    points, others = points - mean, others - mean
    squares = (points**2).sum(axis=1)[:, None] + (others**2).sum(axis=1)
    result: Points = np.maximum(squares - 2 * points @ others.T, 0)
    return result


def draw(weights: NDArray[np.float64], rng: np.random.Generator) -> int:
    """Return an index with a chance proportional to its weight; any, if all weights are 0."""
    total = weights.sum()
    return int(rng.choice(len(weights), p=weights / total if total > 0 else None))


def kmeans(
    points: Points, k: int, rng: np.random.Generator, weights: NDArray[np.float64] | None = None
) -> Points:
    """Return centroids that minimise sum_i w_i min_j ||x_i - c_j||^2, by Lloyd from k-means++.

    Parameters
    ----------
    points : ndarray of float64, shape (N, D), N >= k
    k : int
        At least 1.
    rng : np.random.Generator
        Draws the first centroids.
    weights : ndarray of float64, shape (N,), >= 0, optional
        1 each unless given.

    Returns
    -------
    ndarray of float64, shape (k, D)
        The centroid of the largest total weight first.
    """
    weights = np.ones(len(points)) if weights is None else weights
    centroids = points[_seeds(points, k, rng, weights)]
    for _ in range(MAX_ITERATIONS):
        nearest = squared_distances(points, centroids).argmin(axis=1)
        member = weights * (nearest == np.arange(k)[:, None])
        mass = member.sum(axis=1)
        # A cluster that has lost its points stays where it was.
        moved = centroids.copy()
        moved[mass > 0] = (member @ points)[mass > 0] / mass[mass > 0, None]
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return centroids[np.argsort(-mass, kind="stable")]


def _seeds(
    points: Points, k: int, rng: np.random.Generator, weights: NDArray[np.float64]
) -> list[int]:
    seeds = [draw(weights, rng)]
    gaps = np.full(len(points), np.inf)
    while len(seeds) < k:
        gaps = np.minimum(gaps, squared_distances(points, points[seeds[-1:]])[:, 0])
        seeds.append(draw(weights * gaps, rng))
    return seeds


def take_nearest(selection: Selection, points: Points, centroids: Points) -> NDArray[np.float64]:
    """Choose the candidate nearest to each centroid, in their order.

    Returns
    -------
    ndarray of float64, shape (N,)
        Squared distance of every point to the nearest centroid.
    """
    gaps = squared_distances(points, centroids)
    for column in gaps.T:
        selection.take_lowest(column)
    nearest: NDArray[np.float64] = gaps.min(axis=1)
    return nearest


def take_k_center(
    selection: Selection, points: Points, labelled: Iterable[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Fill a batch, each time with the candidate farthest from all labelled and chosen points.

    Greedy k-center (Sener and Savarese, algorithm 1): u = argmax_i min_j ||x_i - x_j||. Where
    nothing is labelled, the mean of the points takes its place.

    Returns
    -------
    ndarray of float64, shape (N,)
        Squared distance of every point to the nearest labelled or chosen one.
    """
    gaps: NDArray[np.float64] = np.full(len(points), np.inf)
    for row in labelled:
        gaps = np.minimum(gaps, _squared_distance(points, row.astype(np.float64)))
    if np.isinf(gaps).any():
        gaps = _squared_distance(points, points.mean(axis=0))
    while not selection.full:
        index = selection.take_lowest(-gaps)
        gaps = np.minimum(gaps, _squared_distance(points, points[index]))
    return gaps


def _squared_distance(points: Points, point: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = ((points - point) ** 2).sum(axis=1)
    return result
