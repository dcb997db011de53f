import math

import numpy as np
import pytest

from ml_backend.live_quality import Estimate, LiveQuality, advice, live_qualities
from ml_backend.rounds import AnnotationRecord, Overlap


def quality(gain, error, tiles=10):
    return LiveQuality("v", 0, 10, tiles, {}, None, None, Estimate(gain, error))


def two_classes(number, a, b):
    live = {"a": Overlap(*a), "b": Overlap(*b)}
    return AnnotationRecord(str(number), number, 1.0, "random", live)


def test_a_version_is_measured_by_the_next_round(serve_rounds, registry):
    first, second, _ = serve_rounds(1)
    found = live_qualities(registry.cards(1))
    assert [each.version for each in found] == [first, second]
    assert [each.labels for each in found] == [4, 6]
    assert [each.new_labels for each in found] == [4, 2]
    # Pixels of both tiles together: 5 + 8 kept, 15 + 12 in either.
    assert found[0].mean.value == pytest.approx(13 / 27)
    assert found[0].iou == {"mitochondria": pytest.approx(13 / 27)}
    assert found[0].kept_share == pytest.approx(13 / 20)
    assert found[0].tiles == 2
    assert found[0].gain is None
    assert found[1].gain.value == pytest.approx(17 / 23 - 11 / 29)


def test_old_cards_and_first_versions_are_no_measurement(serve, record, registry):
    first = serve(1, round=[record(1), record(2)])
    serve(1, parent=first)
    assert live_qualities(registry.cards(1)) == []
    assert live_qualities([]) == []


def test_a_parent_that_is_gone_is_left_out(serve_rounds, registry):
    serve_rounds(1)
    cards = registry.cards(1)
    assert [each.version for each in live_qualities(cards[1:])] == [cards[1].version]
    assert live_qualities(cards[2:]) == []


def test_the_mean_is_over_the_classes_that_are_there(serve, registry):
    first = serve(1)
    tiles = [two_classes(5, (10, 10, 5), (0, 0, 0)), two_classes(6, (0, 0, 0), (0, 0, 0))]
    serve(1, parent=first, round=tiles)
    [found] = live_qualities(registry.cards(1))
    assert found.iou == {"a": pytest.approx(1 / 3), "b": None}
    assert found.mean.value == pytest.approx(1 / 3)
    serve(2, parent=serve(2), round=[*tiles, two_classes(7, (0, 0, 0), (4, 4, 4))])
    [found] = live_qualities(registry.cards(2))
    assert found.mean.value == pytest.approx((1 / 3 + 1) / 2)


def test_nothing_of_nothing_is_no_quality(serve, registry, record):
    serve(1, parent=serve(1), round=[record(5, (0, 0, 0))])
    [found] = live_qualities(registry.cards(1))
    assert found.mean is None
    assert found.kept_share is None
    assert found.iou == {"mitochondria": None}


def test_one_tile_has_no_error(serve, registry, record):
    first = serve(1)
    second = serve(1, parent=first)
    serve(1, parent=second, round=[record(5, (10, 10, 10), (10, 10, 5))])
    [found] = live_qualities(registry.cards(1))
    assert str(found.mean) == "1.000"
    assert math.isnan(found.mean.error)
    assert found.gain is None


def drawn(count, seed=0):
    """Tiles of two versions: what is hard for one is hard for the other, which is a bit better."""
    rng = np.random.default_rng(seed)
    size, hard = rng.integers(200, 2000, count), rng.uniform(0.3, 0.9, count)
    for number in range(count):
        better, worse = np.clip(hard[number] + np.array([0.06, 0.0]) + rng.normal(0, 0.02, 2), 0, 1)
        yield [
            (int(size[number]), int(size[number]), int(size[number] * k)) for k in (better, worse)
        ]


def pooled(tiles):
    predicted, annotated, kept = np.sum(tiles, axis=0)
    return kept / (predicted + annotated - kept)


def test_errors_are_those_of_a_bootstrap_over_tiles(serve, registry, record):
    tiles = list(drawn(60))
    second = serve(1, parent=serve(1))
    serve(1, parent=second, round=[record(i, *pair) for i, pair in enumerate(tiles)])
    [found] = live_qualities(registry.cards(1))
    rng = np.random.default_rng(1)
    draws = [[tiles[i] for i in rng.integers(60, size=60)] for _ in range(2000)]
    now = np.array([pooled([pair[0] for pair in draw]) for draw in draws])
    then = np.array([pooled([pair[1] for pair in draw]) for draw in draws])
    assert found.mean.error == pytest.approx(now.std(), rel=0.1)
    assert found.gain.error == pytest.approx((now - then).std(), rel=0.1)
    # The same tiles for both: far less noise than each IoU has.
    assert found.gain.error < found.mean.error / 3
    assert found.gain.value > 3 * found.gain.error


def test_nothing_to_say_before_a_gain_is_measured(serve_rounds, registry):
    assert advice([]) == ""
    serve_rounds(1)
    assert advice(live_qualities(registry.cards(1))[:1]) == ""


def test_a_gain_is_told():
    assert advice([quality(0.031, 0.012)]) == "The last round brought +0.031 ± 0.012 IoU."


def test_two_rounds_within_the_noise_question_more_labels():
    said = advice([quality(0.2, 0.01), quality(0.006, 0.008), quality(-0.002, 0.009)])
    assert said.startswith(
        "The last 2 rounds (20 labels) brought less than the noise: +0.004 ± 0.012 IoU. "
    )
    assert "segment the volume" in said


@pytest.mark.parametrize(
    "rounds",
    [
        [quality(0.004, 0.012)],
        [quality(0.004, 0.012), quality(0.031, 0.012)],
        [quality(0.031, 0.012), quality(0.004, 0.012)],
        [quality(0.011, 0.012), quality(0.011, 0.012)],
        [quality(0.004, 0.012, tiles=4), quality(0.004, 0.012)],
        [quality(0.0, 0.06), quality(0.0, 0.06)],
        [quality(0.0, 0.0), quality(0.0, 0.0)],
    ],
    ids=["one", "last gains", "first gains", "both together gain", "few tiles", "vague", "empty"],
)
def test_labelling_goes_on_while_it_is_not_sure(rounds):
    assert advice(rounds).startswith("The last round brought ")
