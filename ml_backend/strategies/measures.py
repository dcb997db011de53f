"""Per-pixel uncertainty of class probabilities.

References
----------
J. Roels, Y. Saeys: Cost-efficient segmentation of electron microscopy images using active
learning. 2019, https://arxiv.org/abs/1911.05548
"""

import numpy as np
from numpy.typing import NDArray


def entropy(probs: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the entropy of every pixel, as a fraction of the largest possible one.

    -sum_c p_c log p_c / log C: the summand of equation (1) of Roels and Saeys, divided by log C so
    that networks with different numbers of classes compare.

    Parameters
    ----------
    probs : ndarray of float, shape (C, ...), C >= 2
        Axis 0 sums to 1.

    Returns
    -------
    ndarray of float64, shape (...), in [0, 1]

    Raises
    ------
    ValueError
        When axis 0 holds no probabilities.
    """
    check_probabilities(probs)
    # An impossible class adds nothing: the limit of p log p at 0.
    summands = probs * np.log(probs, where=probs > 0, out=np.zeros_like(probs))
    total = -summands.sum(axis=0, dtype=np.float64) / np.log(len(probs))
    result: NDArray[np.float64] = np.clip(total, 0, 1)
    return result


def confidence(probs: NDArray[np.float32]) -> float:
    """Return how decided the network is about an image: 1 - mean entropy, in [0, 1].

    Parameters
    ----------
    probs : ndarray of float, shape (C, H, W), C >= 2
        Axis 0 sums to 1.
    """
    return 1.0 - float(entropy(probs).mean())


def top_probability(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probability of the predicted class of every pixel.

    max_c p_c: the summand of equation (2) of Roels and Saeys.

    Parameters
    ----------
    probs : ndarray of float, shape (C, ...), C >= 2
        Axis 0 sums to 1.

    Returns
    -------
    ndarray of float32, shape (...), in [1 / C, 1]

    Raises
    ------
    ValueError
        When axis 0 holds no probabilities.
    """
    check_probabilities(probs)
    # Rounding may lift a sum, and so a probability, a little above 1.
    result: NDArray[np.float32] = np.minimum(probs.max(axis=0), 1)
    return result


def mutual_information(
    mean_probs: NDArray[np.float32], mean_entropy: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return how much passes with different weights disagree about every pixel.

    (H[mean_t p_t] - mean_t H[p_t]) / log C: what the class of a pixel tells about the weights
    (Houlsby et al. 2011, https://arxiv.org/abs/1112.5745), with the distribution of equation (3)
    of Roels and Saeys.

    Parameters
    ----------
    mean_probs : ndarray of float, shape (C, ...), C >= 2
        mean_t p_t; axis 0 sums to 1.
    mean_entropy : ndarray of float, shape (...), in [0, 1]
        mean_t H[p_t] / log C.

    Returns
    -------
    ndarray of float64, shape (...), in [0, 1]

    Raises
    ------
    ValueError
        When axis 0 of `mean_probs` holds no probabilities.
    """
    result: NDArray[np.float64] = np.clip(entropy(mean_probs) - mean_entropy, 0, 1)
    return result


def check_probabilities(probs: NDArray[np.float32]) -> None:
    """Raise a ValueError when axis 0 of `probs` is not a distribution over classes."""
    if len(probs) < 2:
        raise ValueError(f"Probabilities need at least two classes, got {len(probs)}.")
    if (probs < 0).any() or not np.allclose(probs.sum(axis=0), 1, atol=1e-3):
        raise ValueError("The class axis does not hold probabilities: they are >= 0 and sum to 1.")
