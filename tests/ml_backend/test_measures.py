import numpy as np
import pytest

from ml_backend.strategies.measures import (
    confidence,
    entropy,
    mutual_information,
    top_probability,
)


def binary(foreground):
    p = np.array(foreground, np.float32)
    return np.stack([1 - p, p])


def test_entropy_by_hand():
    h = -(0.25 * np.log2(0.25) + 0.75 * np.log2(0.75))
    np.testing.assert_allclose(
        entropy(binary([[0.0, 0.5], [0.25, 1.0]])), [[0, 1], [h, 0]], atol=1e-6
    )


@pytest.mark.parametrize("classes", [2, 3, 7])
def test_entropy_of_even_odds_is_one_whatever_the_classes(classes):
    even = np.full((classes, 2, 2), 1 / classes, np.float32)
    np.testing.assert_allclose(entropy(even), 1, atol=1e-6)


def test_entropy_of_two_out_of_four_classes_is_half():
    probs = np.array([0.5, 0.5, 0, 0], np.float32).reshape(4, 1, 1)
    assert entropy(probs).item() == pytest.approx(0.5)


def test_confidence_is_one_minus_mean_entropy():
    assert confidence(binary([[0.0, 0.5], [0.5, 1.0]])) == pytest.approx(0.5)
    assert confidence(binary([[0.0, 1.0]])) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        np.ones((1, 2, 2), np.float32),
        np.zeros((2, 2, 2), np.float32),
        np.array([[[3.0]], [[-2.0]]], np.float32),
        np.full((2, 1, 1), np.nan, np.float32),
    ],
    ids=["one class", "no sum", "logits", "nan"],
)
def test_only_probabilities_are_taken(wrong):
    with pytest.raises(ValueError, match=r"[Pp]robabilities"):
        entropy(wrong)


def test_top_probability_by_hand():
    probs = np.array([[0.5, 0.2], [0.3, 0.7], [0.2, 0.1]], np.float32)
    np.testing.assert_allclose(top_probability(probs), [0.5, 0.7])


def test_mutual_information_is_what_single_passes_do_not_explain():
    """A pixel of passes (1, 0) and (0, 1), one of two even passes, and a decided one."""
    mean = binary([0.5, 0.5, 1.0])
    information = mutual_information(mean, np.array([0, 1, 0], np.float32))
    np.testing.assert_allclose(information, [1, 0, 0], atol=1e-6)
