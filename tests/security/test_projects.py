"""Projects do not reach into each other, whatever a request or a job says."""

import pytest

from biosegment.labelstudio.client import LabelStudioClient
from ml_backend.loop import Loop

CONFIG = (
    "<View><Image name='image' value='$image'/><BrushLabels name='label' toName='image'>"
    "<Label value='mitochondria'/></BrushLabels></View>"
)


@pytest.fixture
def jobs(app):
    return app.extensions["biosegment"].jobs


def test_a_webhook_leads_to_a_turn_of_its_own_project_only(http, jobs):
    """Others that it names, in other places, play no part."""
    event = {
        "action": "ANNOTATION_CREATED",
        "project": {"id": 1, "parent": {"id": 2}},
        "project_id": 2,
        "task": {"project": 2},
        "annotation": {"project": 2, "task": 7},
        "force": True,
    }
    http.post("/webhook", json=event)
    assert [jobs.job(job_id).args for job_id in jobs.queue.job_ids] == [[1, False]]


@pytest.mark.parametrize(
    "project",
    ["2/../1", "../1", "1 2", "1;2", "0x1", "\uff11", "+1", " 1", "1\n", [1], {"id": [1]}, True],
)
def test_a_forged_number_names_no_project(http, jobs, serve, project):
    serve(1)
    for path in ("/webhook", "/setup", "/predict"):
        fields = {"schema": CONFIG, "label_config": CONFIG, "tasks": [], "project": project}
        answer = http.post(path, json=fields | {"action": "START_TRAINING"})
        assert answer.status_code == 400
    assert jobs.queue.job_ids == []


def test_each_project_is_answered_by_its_own_model(http, serve, volume, make_task):
    """Also when the task is that of another project: what it shows is predicted as one's own."""
    versions = {number: serve(number) for number in (1, 2)}
    for number, version in versions.items():
        body = {"project": number, "tasks": [make_task(70 + number)], "label_config": CONFIG}
        (answer,) = http.post("/predict", json=body).json["results"]
        assert answer["model_version"] == f"{version} (entropy)"
    body = {"project": 3, "tasks": [make_task(71)], "label_config": CONFIG}
    (answer,) = http.post("/predict", json=body).json["results"]
    assert answer == {"result": [], "score": 0.5, "model_version": "untrained"}


def test_what_a_request_says_of_label_studio_is_not_believed(http, site):
    """Neither its address nor a token: the backend speaks to the one that it was started for."""
    fields = {
        "project": "1.1",
        "schema": CONFIG,
        "hostname": site.url,
        "access_token": "mine",
        "extra_params": {"hostname": site.url},
    }
    assert http.post("/setup", json=fields).status_code == 200
    assert site.asked == []


@pytest.mark.stack
def test_a_project_that_is_not_connected_is_not_trained(stack):
    """A forged webhook of it leads to a turn that looks, and leaves it alone."""
    with LabelStudioClient(stack.settings) as client:
        project = client.create_project("Not ours", CONFIG)
        client.create_tasks(project["id"], [{"image": "/data/a.png"}])
        loop = Loop(stack.settings, client)
        state = loop.turn(project["id"], force=True, report=lambda *_: None)
        assert "strategy" not in state
        assert not (stack.data_root / "models" / str(project["id"])).exists()
        assert client.model_versions(project["id"]) == []
        assert loop.turn(10**6, force=True, report=lambda *_: None) == {}
