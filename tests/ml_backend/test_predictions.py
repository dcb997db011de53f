import numpy as np
import pytest

from biosegment.errors import TaskError
from biosegment.labels import LabelMap, labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import NEUTRAL_SCORE, UNTRAINED, annotated_masks, shown_tiles
from ml_backend.pixels import TaskImages
from ml_backend.predictions import MIN_AREA_PX, PredictionService


@pytest.fixture
def service(settings, registry):
    with LabelStudioClient(settings) as client:
        yield PredictionService(registry, TaskImages(settings, client))


def masks_of(task, prediction, label_map):
    """Return the masks that an expert would submit who changes nothing."""
    submitted = [{"id": 1, "result": prediction["result"]}]
    return annotated_masks(task | {"annotations": submitted}, label_map)


def test_before_any_model_there_is_an_empty_result_and_a_neutral_score(
    service, make_task, label_map
):
    tasks = [make_task(1), make_task(2), {"id": 3, "data": {}}]
    answers = service.predict(1, tasks, label_map)
    expected = {"result": [], "score": NEUTRAL_SCORE, "model_version": UNTRAINED}
    assert answers == [expected] * 3
    assert service.predict(1, [], label_map) == []


def test_bright_blobs_are_predicted_where_they_are(service, serve, volume, make_task, label_map):
    version = serve(1)
    task = make_task(1)
    (answer,) = service.predict(1, [task], label_map)
    assert answer["model_version"] == f"{version} (entropy)"
    (tile,) = shown_tiles(task)
    mask = masks_of(task, answer, label_map)[tile]
    np.testing.assert_array_equal(mask, volume[0, :32, :32] > 0)


def test_specks_are_not_predicted(service, serve, volume, make_task, label_map):
    serve(1)
    assert 0 < (volume[0, 32:, 64:] > 0).sum() < MIN_AREA_PX
    (answer,) = service.predict(1, [make_task(1, y=32, x=64)], label_map)
    assert answer["result"] == []


def test_tasks_of_different_sizes_are_answered_in_order(
    service, serve, volume, make_task, label_map
):
    serve(1)
    sizes = [(32, 32), (17, 40), (64, 96), (32, 32), (1, 1), (33, 7)]
    tasks = [make_task(i, height=h, width=w) for i, (h, w) in enumerate(sizes)]
    answers = service.predict(1, tasks, label_map)
    assert len(answers) == len(tasks)
    for task, answer, (height, width) in zip(tasks, answers, sizes, strict=True):
        (mask,) = masks_of(task, answer, label_map).values()
        bright = volume[0, :height, :width] > 0
        kept = bright.copy()
        kept[60:] = False  # a speck
        np.testing.assert_array_equal(mask, kept)
        assert 0 <= answer["score"] <= 1


def test_every_slice_that_a_task_shows_is_predicted(service, serve, volume, make_task):
    label_map = LabelMap.from_config(labelling_config(["mitochondria"], slices=True))
    serve(1)
    task = make_task(1, z=2, context=1, width=96)
    (answer,) = service.predict(1, [task], label_map)
    masks = masks_of(task, answer, label_map)
    assert [tile.z for tile in sorted(masks, key=lambda tile: tile.z)] == [1, 2, 3]
    for tile, mask in masks.items():
        np.testing.assert_array_equal(mask, volume[tile.z, :32] > 200)


def test_an_unsure_tile_has_the_lowest_score(service, serve, volume, make_task, label_map):
    serve(1)
    tasks = [make_task(i, z=3, x=32 * i) for i in range(3)]
    dark, unsure, bright = (each["score"] for each in service.predict(1, tasks, label_map))
    assert unsure < 0.2 < dark < bright


def test_a_missing_image_costs_only_its_own_task_the_prediction(
    service, serve, volume, make_task, label_map
):
    serve(1)
    tasks = [make_task(1), make_task(2, volume="gone"), {"id": 3, "data": {}}, make_task(4, z=99)]
    tasks.append(make_task(5))
    first, *missing, last = service.predict(1, tasks, label_map)
    assert missing == [[], [], []]
    assert first["result"]
    assert last["score"] == pytest.approx(first["score"], abs=1e-6)


def test_all_images_missing_is_said(service, serve, make_task, label_map):
    serve(1)
    with pytest.raises(TaskError, match=r"^Task 2 cannot be used: its image is missing"):
        service.predict(1, [make_task(1), make_task(2)], label_map)


def test_a_new_version_serves_at_once(service, serve, volume, make_task, label_map):
    versions = []
    for _ in range(2):
        versions.append(serve(1))
        assert service.queue(1) == f"{versions[-1]} (entropy)"
        (answer,) = service.predict(1, [make_task(1)], label_map)
        assert answer["model_version"] == service.queue(1)
    assert versions[0] != versions[1]


def test_projects_have_models_of_their_own(service, serve, volume, make_task, label_map):
    version = serve(1)
    assert service.queue(2) == UNTRAINED
    assert service.predict(2, [make_task(1)], label_map)[0]["model_version"] == UNTRAINED
    assert service.queue(1) == f"{version} (entropy)"


def test_a_class_that_was_renamed_is_not_predicted(service, serve, volume, make_task):
    serve(1)
    renamed = LabelMap.from_config(labelling_config(["vesicle"]))
    (answer,) = service.predict(1, [make_task(1)], renamed)
    assert answer["result"] == []
