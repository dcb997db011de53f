from copy import deepcopy

import numpy as np
import pytest

from biosegment.labels import LabelMap, labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from ml_backend.annotated_pool import annotated_pool
from ml_backend.pixels import TaskImages
from ml_backend.predictions import PredictionService
from ml_backend.prequential import compared, new_annotations
from ml_backend.rounds import Overlap
from ml_backend.training import Parent

CLASSES = ("background", "mitochondria")
SIDE = 32
FOUND = 16 * 16  # px: the bright blob from 8 to 24 in the tile at 0, 0 of slices 0 to 2
HALF, ONE, SPARSE = np.zeros((3, SIDE, SIDE), np.uint8)
HALF[8:16, 8:24] = 1
ONE[0, 0] = 1
SPARSE[8:24, 8:16] = 1
SPARSE[0:4] = 2  # background


@pytest.fixture
def records(volume, settings, label_map, registry, finder):
    """Compare the new annotations of tasks as a training turn of project 1 does."""

    def run(tasks, label_map=label_map, grandparent=None):
        with LabelStudioClient(settings) as client:
            images = TaskImages(settings, client)
            pool = annotated_pool(tasks, images, label_map, lambda *_: None)
        new = new_annotations(pool, label_map, registry.cards(1))
        return compared(new, label_map.names, Parent(finder, CLASSES), grandparent)

    return run


def test_an_annotation_is_compared_with_the_prediction(records, make_task, annotate):
    [record] = records([annotate(make_task(7), 40, HALF, lead_time=2.5)])
    assert (record.annotation, record.task, record.lead_time_s) == ("40", 7, 2.5)
    assert record.live == {"mitochondria": Overlap(FOUND, FOUND // 2, FOUND // 2)}
    assert record.before is None


def test_it_is_compared_with_the_mask_that_was_shown(
    records, make_task, annotate, registry, serve, settings, label_map
):
    """Also where specks were removed: a blob of 4 pixels lies in this tile."""
    task = make_task(7, y=32, x=64)
    serve(1, annotations=0)
    with LabelStudioClient(settings) as client:
        service = PredictionService(registry, TaskImages(settings, client))
        [shown] = service.predict(1, [task], label_map)
    assert shown["result"] == []
    [record] = records([annotate(task, 40, ONE)])
    assert record.live == {"mitochondria": Overlap(0, 1, 0)}


def test_an_empty_annotation_keeps_nothing(records, make_task, annotate):
    [record] = records([annotate(make_task(7), 40)])
    assert record.live == {"mitochondria": Overlap(FOUND, 0, 0)}


def test_the_grandparent_sees_the_same_tiles(records, make_task, annotate, finder):
    blind = deepcopy(finder)
    blind.head.bias.data[1] = -50
    tasks = [annotate(make_task(7), 40, HALF)]
    [record] = records(tasks, grandparent=Parent(blind, CLASSES))
    assert record.live == {"mitochondria": Overlap(FOUND, FOUND // 2, FOUND // 2)}
    assert record.before == {"mitochondria": Overlap(0, FOUND // 2, 0)}


def test_unknown_pixels_of_a_sparse_annotation_do_not_count(records, make_task, annotate):
    label_map = LabelMap.from_config(labelling_config(["mitochondria", "background"]))
    [record] = records([annotate(make_task(7), 40, SPARSE, label_map=label_map)], label_map)
    assert record.live == {"mitochondria": Overlap(FOUND // 2, FOUND // 2, FOUND // 2)}


def test_several_classes(records, make_task, annotate):
    label_map = LabelMap.from_config(labelling_config(["vesicle", "mitochondria"]))
    painted = np.where(HALF == 1, 2, 0).astype(np.uint8)
    painted[:4, :4] = 1
    [record] = records([annotate(make_task(7), 40, painted, label_map=label_map)], label_map)
    assert record.live == {
        "vesicle": Overlap(0, 16, 0),
        "mitochondria": Overlap(FOUND, FOUND // 2, FOUND // 2),
    }


def test_of_neighbouring_slices_only_the_target_is_a_test(records, make_task, annotate):
    task = make_task(7, z=1, context=1)
    [record] = records([annotate(task, 40, ONE, HALF, ONE)])
    assert record.live == {"mitochondria": Overlap(FOUND, FOUND // 2, FOUND // 2)}


def test_an_annotation_without_the_target_has_its_time_only(records, make_task, annotate):
    label_map = LabelMap.from_config(labelling_config(["mitochondria", "background"]))
    task = make_task(7, z=1, context=1)
    [record] = records([annotate(task, 40, SPARSE, label_map=label_map)], label_map)
    assert record.live is None
    assert record.lead_time_s == 4.0


def test_what_a_version_learned_from_is_not_new(records, make_task, annotate, serve):
    serve(1, annotations=[40])
    corrected = annotate(make_task(7), 40, HALF, updated_at="2026-11-22T12:00:00Z")
    [record] = records([corrected, annotate(make_task(8, z=1), 41, HALF)])
    assert record.annotation == "41"
    assert record.live is not None


def test_a_tile_that_a_version_knows_is_no_test(records, make_task, annotate, serve, record):
    serve(1, annotations=[40, 50], round=[record(50)])
    second_opinion = annotate(annotate(make_task(7), 40, HALF), 41, HALF)
    # Its slice 1 was painted in task 7's pager.
    pager = annotate(make_task(8, z=0, context=1), 40, None, HALF)
    neighbour = annotate(make_task(9, z=1), 42, HALF)
    deleted_and_made_again = annotate(make_task(150, z=2), 43, HALF)
    found = records([second_opinion, pager, neighbour, deleted_and_made_again])
    assert [each.annotation for each in found] == ["41", "42", "43"]
    assert [each.live for each in found] == [None] * 3


def test_two_new_opinions_are_compared_each(records, make_task, annotate):
    task = annotate(annotate(make_task(7), 41, HALF), 40, ONE)
    found = records([task])
    assert [each.annotation for each in found] == ["40", "41"]
    assert [each.live["mitochondria"].annotated for each in found] == [1, FOUND // 2]


def test_what_was_skipped_or_cannot_be_used_is_left_out(records, make_task, annotate):
    skipped = annotate(make_task(7), 40, was_cancelled=True)
    broken = annotate(make_task(8), 41, np.ones((8, 8), np.uint8))
    assert records([skipped, broken]) == []


def test_the_strategy_is_that_of_the_version_that_served(
    records, make_task, annotate, serve, registry
):
    serve(1, annotations=0, strategy="random")
    [card] = registry.cards(1)
    before, later = "2020-01-01T00:00:00Z", "2100-01-01T00:00:00Z"
    tasks = [
        annotate(make_task(7), 40, HALF, created_at=before),
        annotate(make_task(8, z=1), 41, HALF, created_at=later),
        annotate(make_task(9, z=2), 42, HALF, created_at=card.created, lead_time=60.0),
    ]
    assert [each.strategy for each in records(tasks)] == [None, "random", None]
