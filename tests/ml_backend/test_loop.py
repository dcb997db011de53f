import logging

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from biosegment.errors import NothingToTrainOnError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import LoopOptions
from ml_backend import training_logs
from ml_backend.loop import Loop

MASK = np.zeros((32, 32), np.uint8)
MASK[8:24, 8:24] = 1


@pytest.fixture
def learn(volume, settings, label_map):
    """Train a version of project 1; returns what was reported."""
    with LabelStudioClient(settings) as client:
        loop = Loop(settings, client)

        def run(tasks, strategy="entropy", force=False):
            stages = []
            options = LoopOptions(strategy, training_effort=0.01)
            loop.learn(1, tasks, label_map, options, lambda *each: stages.append(each), force=force)
            return stages

        yield run


@pytest.fixture
def tasks(make_task, annotate):
    """Six tasks of six places, the first painted."""
    return [annotate(make_task(i, z=i % 3, x=32 * (i // 3)), 40 + i, MASK) for i in range(6)]


def test_every_annotation_teaches_and_tests_once(learn, tasks, registry):
    for count in (2, 4, 6):
        learn(tasks[:count], strategy=f"{count}")
    first, second, third = registry.cards(1)
    assert [card.labels for card in (first, second, third)] == [2, 4, 6]
    assert [set(card.annotations) for card in (first, third)] == [
        {"40", "41"},
        {str(40 + i) for i in range(6)},
    ]
    assert [[r.annotation for r in card.round] for card in (first, second, third)] == [
        ["40", "41"],
        ["42", "43"],
        ["44", "45"],
    ]
    assert all(r.live is None and r.lead_time_s == 4.0 for r in first.round)
    assert all(r.live["mitochondria"].annotated == 256 for r in second.round)
    assert all(r.before is None for r in second.round)
    assert all(r.live and r.before for r in third.round)


def scalars(run):
    """Return the values of each series of a TensorBoard run, by their steps."""
    events = EventAccumulator(str(run)).Reload()
    return {
        tag: {each.step: each.value for each in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_shows_each_version(learn, tasks, registry, settings, serve):
    learn(tasks[:2])
    serve(1, annotations=2)
    learn(tasks[:4])
    learn(tasks)
    trained, other, third, last = [card.version for card in registry.cards(1)]
    folder = settings.data_root / "logs" / "1"
    assert (folder / trained).is_dir()
    # A version that was not trained here is tested by its successor all the same.
    assert scalars(folder / other).keys() == {"live_iou/mitochondria", "live_iou/mean"}
    found = scalars(folder / third)
    assert list(found["live_iou/mean"]) == [4]
    assert "live_iou/mean" not in scalars(folder / last)


def test_old_runs_go(learn, tasks, registry, settings, monkeypatch):
    monkeypatch.setattr(training_logs, "KEPT_RUNS", 2)
    for count in (2, 3, 4):
        learn(tasks[:count])
    runs = sorted(path.name for path in (settings.data_root / "logs" / "1").iterdir())
    assert runs == [card.version for card in registry.cards(1)][1:]


@pytest.mark.parametrize("harm", ["damaged", "gone"])
def test_without_the_grandparent_there_is_no_gain(learn, tasks, registry, settings, caplog, harm):
    for count in (2, 4):
        learn(tasks[:count])
    folder = settings.data_root / "models" / "1" / registry.cards(1)[0].version
    weights = folder / "weights.safetensors"
    weights.unlink() if harm == "gone" else weights.write_bytes(b"")
    with caplog.at_level(logging.WARNING):
        learn(tasks)
    last = registry.cards(1)[-1]
    assert all(r.live and r.before is None for r in last.round)
    assert "gain is not measured" in caplog.text


def test_after_a_damaged_model_nothing_is_tested_twice(learn, tasks, registry, settings):
    learn(tasks[:4])
    version = registry.current(1)
    (settings.data_root / "models" / "1" / version / "weights.safetensors").write_bytes(b"")
    learn(tasks)
    card = registry.card(1, registry.current(1))
    assert card.parent is None
    assert [(r.annotation, r.live) for r in card.round] == [("44", None), ("45", None)]


def test_waits_while_nothing_can_be_learned_from(learn, make_task, annotate, registry):
    broken = [annotate(make_task(1), 40, np.ones((8, 8), np.uint8))]
    learn(broken)
    assert registry.current(1) is None
    with pytest.raises(NothingToTrainOnError):
        learn(broken, force=True)
