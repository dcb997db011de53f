import numpy as np
import pytest

from biosegment.errors import UnknownStrategyError
from biosegment.labels import LabelMap, labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import annotated_masks
from biosegment.settings import LoopOptions
from ml_backend import ranking
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.pixels import TaskImages
from ml_backend.predictions import Model
from ml_backend.ranking import rank
from ml_backend.strategies import STRATEGIES


@pytest.fixture
def images(settings):
    with LabelStudioClient(settings) as client:
        yield TaskImages(settings, client)


@pytest.fixture
def model(serve, registry):
    return Model(registry, 1, serve(1))


@pytest.fixture
def ranked(model, images, label_map):
    """Rank a pool; returns the predictions."""

    def run(
        pool, strategy="entropy", label_map=label_map, report=lambda *_: None, labelled=(), batch=10
    ):
        options = LoopOptions(strategy, batch)
        return rank(pool, labelled, model, images, label_map, options, report)

    return run


@pytest.fixture
def thirds(volume, make_task):
    """A dark, an unsure and a bright tile."""
    return [make_task(number, z=3, x=32 * i) for i, number in enumerate((10, 11, 12))]


def test_what_the_model_is_least_sure_of_comes_first(ranked, thirds, model):
    predictions = ranked(thirds)
    assert [each["task"] for each in predictions] == [11, 10, 12]
    scores = [each["score"] for each in predictions]
    assert scores == sorted(scores)
    assert 0 <= scores[0] < scores[-1] <= 1
    assert {each["model_version"] for each in predictions} == {f"{model.version} (entropy)"}


@pytest.mark.parametrize("strategy", ["entropy", "random", "coreset"])
def test_every_task_gets_its_mask(ranked, volume, make_task, label_map, strategy):
    pool = [make_task(number, z=number) for number in range(3)]
    predictions = ranked(pool, strategy)
    assert sorted(each["task"] for each in predictions) == [0, 1, 2]
    for each in predictions:
        task = pool[each["task"]] | {"annotations": [{"id": 1, "result": each["result"]}]}
        (mask,) = annotated_masks(task, label_map).values()
        np.testing.assert_array_equal(mask, volume[each["task"], :32, :32] > 0)


def test_all_slices_of_a_task_get_masks(ranked, volume, make_task):
    label_map = LabelMap.from_config(labelling_config(["mitochondria"], slices=True))
    predictions = ranked([make_task(1, z=1, context=1)], label_map=label_map)
    assert [region["item_index"] for region in predictions[0]["result"]] == [0, 1, 2]


@pytest.mark.parametrize("strategy", ["entropy", "random", "coreset"])
def test_tasks_far_down_the_queue_have_a_score_alone(
    ranked, volume, make_task, strategy, monkeypatch
):
    monkeypatch.setattr(ranking, "PRELABELLED", 2)
    predictions = ranked([make_task(number, z=number % 3) for number in range(5)], strategy)
    assert len(predictions) == 5
    assert [bool(each["result"]) for each in predictions] == [True, True, False, False, False]


@pytest.mark.parametrize("strategy", ["entropy", "random", "coreset"])
def test_tasks_that_cannot_be_read_come_last(ranked, thirds, make_task, strategy):
    uploaded = {"id": 90, "data": {"image": "/data/upload/1/photo.png"}}
    pool = [make_task(91, volume="gone"), thirds[0], uploaded, thirds[1], make_task(92, z=99)]
    predictions = ranked(pool, strategy)
    assert {each["task"] for each in predictions[:2]} == {10, 11}
    assert [each["task"] for each in predictions[2:]] == [90, 91, 92]
    assert {each["score"] for each in predictions[2:]} == {1.0}
    assert all(each["result"] == [] for each in predictions[2:])


def test_an_empty_pool_has_no_order(ranked):
    assert ranked([]) == []


def test_the_same_pool_has_the_same_order(ranked, volume, make_task):
    pool = [make_task(number, z=number % 5) for number in range(10)]
    one, other = (
        [each["task"] for each in ranked(pool, strategy)] for strategy in ("random", "random")
    )
    assert one == other


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_ranks(ranked, thirds, make_task, strategy):
    pool = [*thirds, make_task(91, volume="gone")]
    one, other = (ranked(pool, strategy, labelled=[make_task(13, z=0)]) for _ in range(2))
    assert {each["task"] for each in one[:3]} == {10, 11, 12}
    assert one[3]["task"] == 91
    assert [(r["task"], r["score"]) for r in one] == [(r["task"], r["score"]) for r in other]


@pytest.mark.parametrize(("x", "last"), [(0, 10), (32, 11), (64, 12)])
def test_what_looks_as_if_labelled_waits(
    serve, registry, images, label_map, thirds, make_task, x, last
):
    model = Model(registry, 2, serve(2, UNet(UNetSpec(2, widths=(4, 8)))))
    labelled = [make_task(20, z=3, x=x), make_task(21, volume="gone")]
    options = LoopOptions("coreset", retrain_every=1)
    ranked = rank(thirds, labelled, model, images, label_map, options, lambda *_: None)
    assert ranked[-1]["task"] == last


def test_a_batch_leaves_neighbouring_slices_out(ranked, volume, make_task):
    """The volume does not know its voxel size; the three slices are nearer than 250 nm."""
    pool = [make_task(number, z=number % 3, x=64 * (number // 3)) for number in range(6)]
    batch = ranked(pool, "spaced_entropy", batch=2)[:2]
    assert {each["task"] // 3 for each in batch} == {0, 1}


def test_progress_counts_the_pool(ranked, thirds):
    told = []
    ranked(thirds, report=lambda *now: told.append(now))
    assert told == [("scoring", 1, 3), ("scoring", 2, 3), ("scoring", 3, 3)]


def test_a_strategy_that_does_not_exist_is_named(ranked, thirds):
    with pytest.raises(UnknownStrategyError, match="'guess'; choose one of: badge, bald"):
        ranked(thirds, "guess")
