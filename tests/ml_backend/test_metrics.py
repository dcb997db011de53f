import numpy as np
import pytest

from biosegment.labels import UNKNOWN
from ml_backend.dataset import LabelledTile
from ml_backend.metrics import evaluate


class Says:
    """A predictor whose answer is written on the image: its value is the class."""

    def probabilities(self, images):
        for image in images:
            yield np.eye(3, dtype=np.float32)[image.astype(int)].transpose(2, 0, 1)


def tile(said, truth):
    return LabelledTile(np.array(said, np.float32), np.array(truth, np.uint8))


CLASSES = ("background", "a", "b")


def test_by_hand():
    # Class a: 2 pixels agree of 4 that either side has.
    tiles = [tile([[1, 1, 0]], [[1, 0, 1]]), tile([[1]], [[1]])]
    metrics = evaluate(Says(), tiles, CLASSES)
    assert metrics["iou"] == {"a": pytest.approx(0.5), "b": None}
    assert metrics["mean_iou"] == pytest.approx(0.5)
    assert metrics["tiles"] == 2


def test_unknown_pixels_do_not_count():
    metrics = evaluate(Says(), [tile([[1, 1, 2]], [[1, UNKNOWN, UNKNOWN]])], CLASSES)
    assert metrics["iou"] == {"a": 1.0, "b": None}


def test_a_class_that_is_only_predicted_counts_as_wrong():
    metrics = evaluate(Says(), [tile([[1, 2]], [[1, 0]])], CLASSES)
    assert metrics["iou"] == {"a": 1.0, "b": 0.0}
    assert metrics["mean_iou"] == pytest.approx(0.5)


def test_nothing_to_measure_on():
    assert evaluate(Says(), [], CLASSES) == {
        "iou": {"a": None, "b": None},
        "mean_iou": None,
        "tiles": 0,
    }
