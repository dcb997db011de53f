"""Predictions order the queue of Label Studio, and are its masks to correct."""

import numpy as np
import pytest

from biosegment.errors import LabelStudioError
from biosegment.labelstudio.payloads import (
    annotated_masks,
    prediction_regions,
    task_data,
    tile_of,
)
from tests.biosegment.labelstudio.conftest import LABELS, scored, tiles


@pytest.mark.stack
def test_the_lowest_score_of_the_serving_version_is_served_first(client, project, pool):
    client.import_predictions(project, scored(pool, [0.5, 0.1, 0.9, 0.3, 0.7]))
    client.set_model_version(project, "0001-20261122T101530")
    served = []
    while task := client.next_task(project):
        served.append(task["id"])
        client.annotate(task["id"], [], 1.0)
    assert served == [pool[i]["id"] for i in (1, 3, 0, 4, 2)]


@pytest.mark.stack
def test_predictions_of_other_versions_order_nothing(client, project, pool):
    """Also once this user has labelled some, which Label Studio looks up in their predictions."""
    client.import_predictions(project, scored(pool, [0.1, 0.2, 0.3, 0.4, 0.5], "before"))
    client.import_predictions(project, scored(pool, [0.5, 0.3, 0.9, 0.1, 0.7], "serving"))
    client.import_predictions(project, scored(pool, [0.0, 0.9, 0.1, 0.8, 0.2], "after"))
    client.set_model_version(project, "serving")
    served = []
    while task := client.next_task(project):
        assert [each["model_version"] for each in task["predictions"]] == ["serving"]
        [head] = client.head_of_queue(project, 1)
        assert head["id"] == task["id"]
        served.append(task["id"])
        client.annotate(task["id"], [], 1.0)
    assert served == [pool[i]["id"] for i in (3, 1, 0, 4, 2)]


@pytest.mark.stack
def test_the_head_of_the_queue(client, project, pool):
    client.import_predictions(project, scored(pool, [0.5, 0.1, 0.9, 0.3, 0.7]))
    client.set_model_version(project, "0001-20261122T101530")
    client.annotate(pool[1]["id"], [], 1.0)
    head = client.head_of_queue(project, 2)
    assert [task["id"] for task in head] == [pool[3]["id"], pool[0]["id"]]
    assert [task["predictions_score"] for task in head] == pytest.approx([0.3, 0.5])
    assert tile_of(head[0]) == tile_of(pool[3])
    for task in pool:
        client.annotate(task["id"], [], 1.0)
    assert client.head_of_queue(project, 2) == []


@pytest.mark.stack
def test_tasks_that_are_deleted_meanwhile_leave_one_score_to_each_other_task(client, project):
    data = [task_data(tile, context=0, depth=1100) for tile in tiles(1100)]
    client.create_tasks(project, data)
    pool = client.tasks(project)
    gone = [pool[i]["id"] for i in (0, 700, 701)]
    for number in gone:
        client._request("DELETE", f"api/tasks/{number}/")
    steps = []
    client.import_predictions(
        project, scored(pool, [0.5] * len(pool)), lambda *step: steps.append(step)
    )
    assert steps[-1] == (1100, 1100)
    params = {"project": project, "page_size": 1100, "fields": "all", "include": "id,predictions"}
    found = client._json("GET", "api/tasks/", params=params)["tasks"]
    assert len(found) == 1097
    assert {len(task["predictions"]) for task in found} == {1}


@pytest.mark.stack
def test_old_predictions_go_and_new_ones_stay(client, project, pool):
    client.import_predictions(project, scored(pool, [0.5] * 5, "old"))
    client.import_predictions(project, scored(pool[:2], [0.4] * 2, "new"))
    assert sorted(client.model_versions(project)) == ["new", "old"]
    tasks = [task["id"] for task in pool]
    assert client.predicted_tasks(project, "old") == set(tasks)
    assert [client.awaits_predictions(project, each) for each in ("old", "new")] == [False, True]
    for number in tasks[2:]:
        client.annotate(number, [], 1.0)
    assert not client.awaits_predictions(project, "new")
    assert client.predicted_tasks(project, "new") == set(tasks[:2])
    client.delete_predictions(project, "old")
    assert client.model_versions(project) == ["new"]
    assert client.predicted_tasks(project, "old") == set()
    assert client.predicted_tasks(project, "new") == set(tasks[:2])


@pytest.mark.stack
def test_a_predicted_mask_survives_label_studio(client, project, pool):
    mask = np.random.default_rng(0).integers(0, 2, (8, 8), "uint8")
    regions = prediction_regions([mask], ["background", "mitochondria"], LABELS)
    client.import_predictions(project, [scored(pool[:1], [0.5])[0] | {"result": regions}])
    client.annotate(pool[0]["id"], client.next_task(project) and regions, 12.5)
    (task,) = client.annotated_tasks(project)
    assert task["id"] == pool[0]["id"]
    np.testing.assert_array_equal(annotated_masks(task, LABELS)[tile_of(task)], mask)
    (annotation,) = task["annotations"]
    assert annotation["lead_time"] == 12.5
    assert annotation["updated_at"]


@pytest.mark.stack
def test_predictions_of_deleted_tasks_are_left_out(client, project, pool):
    client._request("DELETE", f"api/tasks/{pool[2]['id']}/")
    client.import_predictions(project, scored(pool, [0.5] * 5, "serving"))
    present = {task["id"] for task in pool} - {pool[2]["id"]}
    assert client.predicted_tasks(project, "serving") == present
    with pytest.raises(LabelStudioError, match="404"):
        client.import_predictions(project + 1000, scored(pool, [0.5] * 5))
