import io

import numpy as np
import pytest
from PIL import Image

from ml_backend.experiment import Protocol, Round, Run
from ml_backend.experiment_report import (
    area_under_curve,
    curves,
    curves_figure,
    labels_to_reach,
    summaries,
)

LABELS = np.array([20, 40, 80])
PROTOCOL = Protocol(initial=20, labels=80)


def rounds(iou):
    return [Round(int(n), value, 1.0, 0.0) for n, value in zip(LABELS, iou, strict=False)]


RESULTS = {
    Run("random", 0): rounds([0.1, 0.3, 0.5]),
    Run("random", 1): rounds([0.3, 0.5, 0.7]),
    Run("entropy", 0): rounds([0.2, 0.7, 0.8]),
    Run("entropy", 1): rounds([0.2, 0.7, 0.7]),
    Run("entropy", 2): rounds([0.9, 0.9]),
    Run("converged", 0): [Round(1000, 1.0, 9.0, 0.0)],
    Run("full", 0): [Round(1000, 0.9, 9.0, 0.0)],
}


@pytest.mark.parametrize(
    ("labels", "iou", "area"),
    [
        ([20, 40, 80], [0.5, 0.5, 0.5], 0.5),
        ([20, 40], [0.2, 0.4], 0.3),
        ([20, 40, 80], [0.0, 0.6, 0.6], (20 * 0.3 + 40 * 0.6) / 60),
        ([20], [0.4], 0.4),
    ],
)
def test_area_under_curve(labels, iou, area):
    assert area_under_curve(np.array(labels), np.array(iou)) == pytest.approx(area)


@pytest.mark.parametrize(
    ("iou", "target", "labels"),
    [
        ([0.2, 0.4, 0.8], 0.4, 40),
        ([0.2, 0.4, 0.8], 0.5, 50),
        ([0.2, 0.4, 0.8], 0.1, 20),
        ([0.2, 0.4, 0.8], 0.9, None),
        ([0.2, 0.6, 0.4], 0.5, 35),
        ([0.5, 0.5, 0.5], 0.5, 20),
    ],
)
def test_labels_to_reach(iou, target, labels):
    assert labels_to_reach(LABELS, np.array(iou), target) == pytest.approx(labels)


def test_curves_are_made_of_complete_runs():
    found = curves(RESULTS, PROTOCOL)
    assert set(found) == {"random", "entropy", "converged", "full"}
    entropy = found["entropy"]
    np.testing.assert_array_equal(entropy.labels, LABELS)
    assert entropy.iou.shape == (2, 3)
    np.testing.assert_allclose(entropy.mean, [0.2, 0.7, 0.75])
    np.testing.assert_allclose(entropy.spread, [0, 0, 0.1 / np.sqrt(2)], atol=1e-12)
    np.testing.assert_array_equal(found["full"].spread, [0])


def test_summaries():
    lines = summaries(curves(RESULTS, PROTOCOL))
    assert [line.name for line in lines] == ["entropy", "random", "converged", "full"]
    entropy, random, converged, full = lines
    assert (entropy.seeds, converged.seeds) == (2, 1)
    assert entropy.final_iou == pytest.approx(0.75)
    assert entropy.of_random == pytest.approx(1.25)
    assert entropy.of_converged == pytest.approx(0.75)
    # Random ends at 0.6; entropy's straight line from 0.2 to 0.7 passes it at 36 of 80 labels.
    assert entropy.budget == pytest.approx(36 / 80)
    assert random.budget == pytest.approx(1)
    assert random.area == pytest.approx((20 * 0.3 + 40 * 0.5) / 60)
    assert random.area_spread == pytest.approx(0.2 / np.sqrt(2))
    assert converged.area is None
    assert full.of_converged == pytest.approx(0.9)
    assert full.budget is None


def test_without_a_baseline_nothing_is_compared_with_it():
    (line,) = summaries(curves({Run("entropy", 0): RESULTS[Run("entropy", 0)]}, PROTOCOL))
    assert (line.of_random, line.of_converged, line.budget) == (None, None, None)
    assert line.final_spread == line.area_spread == 0


def test_no_run_is_complete_yet():
    assert summaries(curves({Run("entropy", 2): RESULTS[Run("entropy", 2)]}, PROTOCOL)) == []


def test_the_plot_names_every_curve():
    found = curves(RESULTS, PROTOCOL)
    figure = curves_figure(found, "vnc")
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    expected = ["random", "entropy", "all 1000 tiles, full", "all 1000 tiles, converged"]
    assert texts == expected
    picture = io.BytesIO()
    figure.savefig(picture)
    with Image.open(picture) as image:
        assert image.size[0] > 400
