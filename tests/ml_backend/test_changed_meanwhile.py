"""What people change in Label Studio while a turn is at work."""

import pytest

from biosegment.errors import LabelStudioError
from biosegment.labels import labelling_config
from biosegment.settings import LoopOptions
from ml_backend.loop import Loop

pytestmark = pytest.mark.stack

OPTIONS = LoopOptions("entropy", retrain_every=50, training_effort=0.01)


@pytest.fixture
def project(client, volume, make_task):
    """A connected project of three tasks, part of each bright enough for a mask."""
    number = client.create_project("Changed meanwhile", labelling_config(["mitochondria"]))["id"]
    client.create_tasks(number, [make_task(0, z=z, x=0)["data"] for z in range(3)])
    client.connect_backend(number, OPTIONS)
    yield number
    if client.has_project(number):
        delete_project(client, number)


def delete_project(client, number):
    client._request("DELETE", f"api/projects/{number}/")


def set_labels(client, number, *labels):
    body = {"label_config": labelling_config(labels)}
    client._request("PATCH", f"api/projects/{number}/", json=body)


@pytest.fixture
def turn(here, client, project):
    """Run a turn during which something happens as a stage begins, once."""

    def run(awaited, happens):
        waiting = [happens]

        def report(stage, done, total):
            if stage == awaited and waiting:
                waiting.pop()()

        return Loop(here, client).turn(project, force=False, report=report)

    return run


def labels_of(client, project, queue):
    """Return the labels in the masks of a queue, one set a task."""
    assert client.project(project)["model_version"] == queue
    found = client._sdk.predictions.list(project=project)
    return [
        {label for region in each.result for label in region["value"]["brushlabels"]}
        for each in found
        if each.model_version == queue
    ]


@pytest.mark.parametrize("stage", ["reading annotations", "scoring"])
def test_masks_follow_labels_that_are_edited_during_a_turn(client, project, serve, turn, stage):
    queue = f"{serve(project)} (entropy)"
    turn(stage, lambda: set_labels(client, project, "renamed"))
    assert labels_of(client, project, queue) == [set()] * 3


def test_an_added_label_changes_no_mask(client, project, serve, turn):
    queue = f"{serve(project)} (entropy)"
    turn("scoring", lambda: set_labels(client, project, "mitochondria", "vesicles"))
    assert labels_of(client, project, queue) == [{"mitochondria"}] * 3


def test_tasks_that_are_deleted_during_a_turn_do_not_fail_it(client, project, serve, turn):
    queue = f"{serve(project)} (entropy)"
    gone = client.tasks(project)[1]["id"]
    turn("scoring", lambda: client._request("DELETE", f"api/tasks/{gone}/"))
    assert len(labels_of(client, project, queue)) == 2


def test_a_version_that_finds_all_tasks_labelled_waits_for_more(
    client, project, serve, turn, make_task
):
    for task in client.tasks(project):
        client.annotate(task["id"], [], 1.0)
    queue = f"{serve(project)} (entropy)"
    state = turn("never", None)
    # What a worker compares it with, to see whether another turn is due.
    assert state["model_version"] == client.project(project)["model_version"] != queue
    client.create_tasks(project, [make_task(0, z=4, x=32)["data"]])
    assert turn("never", None)["model_version"] == queue
    assert len(labels_of(client, project, queue)) == 1


def test_a_turn_with_nothing_to_rank_reads_no_tasks(client, project, serve, turn):
    """There may be a hundred thousand, and most annotations are too few for a training."""
    serve(project)
    read = []
    for _ in range(2):
        client.annotate(client.tasks(project)[0]["id"], [], 1.0)
        turn("reading tasks", lambda: read.append(True))
    assert read == [True]


def test_a_project_that_is_deleted_during_a_turn_ends_it(client, project, serve, turn):
    serve(project)
    assert turn("scoring", lambda: delete_project(client, project)) == {}


def test_what_else_fails_is_not_hidden(client, project, serve, turn):
    serve(project)

    def refuse():
        raise LabelStudioError(client.url, "500, made to fail")

    with pytest.raises(LabelStudioError, match="made to fail"):
        turn("scoring", refuse)
