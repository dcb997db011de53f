"""Simulations of a few tiles, on a volume where bright is foreground."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from biosegment.errors import UnknownStrategyError
from biosegment.geometry import Roi, VoxelSize
from biosegment.tiles import spread
from ml_backend import experiment
from ml_backend.experiment import (
    CONVERGED,
    FULL,
    PROTOCOLS,
    Epochs,
    GroundTruth,
    Protocol,
    Run,
    simulate,
)
from ml_backend.training import TrainingSpec

SPEC = TrainingSpec(
    ("background", "bright"),
    widths=(4, 8),
    first_steps=25,
    finetune_steps=10,
    learning_rate=2e-2,
    batch_size=4,
)
PROTOCOL = Protocol(pool=12, initial=2, per_round=3, labels=7, tile_px=16, converged_steps=30)


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for a busy machine take longer than the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ground_truth(seed=0, shape=(3, 48, 40)):
    rng = np.random.default_rng(seed)
    masks = (rng.random(shape) < 0.3).astype(np.uint8)
    images = (0.2 + 0.5 * masks + 0.2 * rng.random(shape)).astype(np.float32)
    depth, height, width = shape
    half = height // 2
    return GroundTruth(
        images,
        masks,
        Roi(0, 0, 0, depth, half, width),
        Roi(0, half, 0, depth, height - half, width),
    )


def states(run, truth=None, **options):
    return list(simulate(run, truth or ground_truth(), PROTOCOL, SPEC, **options))


def figures(reached):
    """What is the same when a run is repeated: everything but the seconds."""
    return [(state.labelled, state.rounds[-1].iou) for state in reached]


def same_weights(one, other):
    found, expected = one.network.state_dict(), other.network.state_dict()
    return all(torch.equal(value, expected[name]) for name, value in found.items())


@pytest.mark.parametrize("strategy", ["random", "entropy"])
def test_labels_grow_to_the_budget(strategy):
    reached = states(Run(strategy, 0))
    assert [state.rounds[-1].labels for state in reached] == [2, 5, 7]
    assert [len(state.rounds) for state in reached] == [1, 2, 3]
    for before, after in pairwise(reached):
        assert after.labelled[: len(before.labelled)] == before.labelled
    assert len(set(reached[-1].labelled)) == 7
    assert 0.5 < reached[-1].rounds[-1].iou <= 1
    assert all(done.train_s > 0 for done in reached[-1].rounds)


def test_strategies_of_a_seed_start_alike():
    random, entropy = states(Run("random", 1))[0], states(Run("entropy", 1))[0]
    assert random.labelled == entropy.labelled
    assert random.rounds[0].iou == entropy.rounds[0].iou
    assert random.labelled != states(Run("random", 2))[0].labelled


def test_the_first_tiles_are_those_that_the_service_serves_first():
    truth = replace(ground_truth(), voxel_size=VoxelSize(50, 5, 5))
    (first, *_) = simulate(Run("random", 0), truth, PROTOCOL, SPEC)
    tiles = truth.pool(PROTOCOL, 0)
    assert list(first.labelled) == spread(tiles, truth.voxel_size, 2)
    assert tiles[first.labelled[0]].z == 1


@pytest.mark.parametrize("strategy", ["random", "entropy"])
def test_a_run_goes_on_as_if_it_had_not_been_interrupted(strategy):
    run = Run(strategy, 0)
    whole = states(run)
    resumed = states(run, state=whole[0])
    assert figures(resumed) == figures(whole[1:])
    assert same_weights(resumed[-1], whole[-1])
    assert states(run, state=whole[-1]) == []


def test_the_test_half_is_never_trained_on():
    """Other truth there gives other figures, but the same tiles and the same weights."""
    truth, other = ground_truth(), ground_truth()
    other.masks[other.test.slices] = 1 - other.masks[other.test.slices]
    other.images[other.test.slices] = 0.5
    for strategy in ("entropy", FULL, CONVERGED):
        one, two = states(Run(strategy, 0), truth), states(Run(strategy, 0), other)
        assert [state.labelled for state in one] == [state.labelled for state in two]
        assert same_weights(one[-1], two[-1])
        assert one[-1].rounds[-1].iou != two[-1].rounds[-1].iou


def test_the_test_half_is_measured_once_and_whole(monkeypatch):
    monkeypatch.setattr(experiment, "TEST_WINDOW_PX", 15)
    truth = ground_truth(shape=(2, 33, 31))
    truth.images[:] = np.arange(truth.images.size).reshape(truth.images.shape)
    seen = np.concatenate([tile.image.ravel() for tile in truth.test_tiles()])
    expected = truth.images[truth.test.slices].ravel()
    np.testing.assert_array_equal(np.sort(seen), expected)
    assert {tile.image.shape for tile in truth.test_tiles()} == {
        (8, 10),
        (8, 11),
        (9, 10),
        (9, 11),
    }


def test_what_is_measured_is_the_jaccard_index():
    truth = ground_truth()
    state = states(Run("random", 0), truth)[-1]
    predictor = experiment.Predictor(state.network)
    images = truth.images[truth.test.slices]
    predicted = np.stack([probs.argmax(axis=0) for probs in predictor.probabilities(images)])
    expected = truth.masks[truth.test.slices]
    jaccard = (predicted & expected).sum() / (predicted | expected).sum()
    assert state.rounds[-1].iou == pytest.approx(jaccard)


def test_ceilings_are_one_training_on_the_whole_pool():
    for strategy in (FULL, CONVERGED):
        (state,) = states(Run(strategy, 0))
        assert sorted(state.labelled) == list(range(12))
        assert state.rounds[-1].labels == 12
        assert states(Run(strategy, 0), state=state) == []


def test_total_steps_are_those_of_all_rounds(monkeypatch):
    taken = []

    def counted(training, validation, spec, parent):
        def note(done, total):
            if done == total:
                taken.append(total)

        return train(training, validation, spec, parent, progress=note)

    train = experiment.train
    monkeypatch.setattr(experiment, "train", counted)
    for protocol in (PROTOCOL, replace(PROTOCOL, epochs=Epochs(first=3, later=2, batch_size=4))):
        taken.clear()
        list(simulate(Run("random", 0), ground_truth(), protocol, SPEC))
        total = sum(taken)
        assert protocol.total_steps(SPEC) == total
        list(simulate(Run(FULL, 0), ground_truth(), protocol, SPEC))
        list(simulate(Run(CONVERGED, 0), ground_truth(), protocol, SPEC))
        assert taken[-2:] == [total, 30]


def test_the_papers_epochs_become_steps():
    paper = PROTOCOLS["paper"]
    first = paper.recipe(SPEC, 20, first=True)
    assert (first.first_steps, first.learning_rate) == (157, 1e-3)
    last = paper.recipe(SPEC, 500, first=False)
    assert (last.finetune_steps, last.learning_rate) == (1563, 5e-4)
    assert first.batch_size == last.batch_size == 64
    assert (paper.initial, paper.per_round, paper.pool, paper.tile_px) == (20, 20, 2000, 128)


def test_the_quick_protocol_trains_as_the_service_does():
    assert PROTOCOLS["quick"].recipe(SPEC, 100, first=False) == SPEC


def test_an_unknown_strategy():
    with pytest.raises(UnknownStrategyError, match="guess"):
        states(Run("guess", 0), state=states(Run("random", 0))[0])
