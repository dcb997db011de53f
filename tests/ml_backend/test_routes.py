import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rq.job import JobStatus

from biosegment.labels import labelling_config
from biosegment.labelstudio.payloads import annotated_masks

PAYLOADS = Path(__file__).with_name("payloads")
CONFIG = labelling_config(["mitochondria"])
WEBHOOK_LIMIT_S = 1.0  # what Label Studio gives a webhook


def recorded(name):
    return json.loads((PAYLOADS / f"{name}.json").read_text())


def asked(tasks, project=1, config=CONFIG):
    return {"tasks": tasks, "project": f"{project}.1795343825", "label_config": config}


def webhook(action="ANNOTATION_CREATED", project=1):
    return {"action": action, "project": {"id": project}}


def said(answer):
    """Return the sentence of a refusal."""
    assert list(answer.json) == ["error"]
    assert "Traceback" not in answer.json["error"]
    assert "\n" not in answer.json["error"]
    return answer.json["error"]


# Contract


def test_health(http):
    answer = http.get("/health")
    assert answer.status_code == 200
    assert answer.json["status"] == "UP"


def test_setup_tells_the_queue_that_serves(http, serve, registry):
    body = recorded("setup")
    assert http.post("/setup", json=body).json == {"model_version": "untrained"}
    project = int(body["project"].split(".")[0])
    version = serve(project)
    assert http.post("/setup", json=body).json == {"model_version": f"{version} (entropy)"}
    registry.set_ranked_by(project, version, "random")
    assert http.post("/setup", json=body).json == {"model_version": f"{version} (random)"}


def test_setup_refuses_a_configuration_without_a_brush(http):
    answer = http.post("/setup", json=recorded("setup") | {"schema": "<View/>"})
    assert answer.status_code == 422
    assert "no BrushLabels" in said(answer)


def test_predict_before_any_model(http):
    body = recorded("predict")
    results = http.post("/predict", json=body).json["results"]
    assert [each["result"] for each in results] == [[]] * len(body["tasks"])
    assert {each["score"] for each in results} == {0.5}


def test_predict_answers_every_task_in_order(http, serve, volume, make_task, label_map):
    version = serve(1)
    tasks = [make_task(1), make_task(2, height=64, width=90), make_task(3, z=1, width=20)]
    results = http.post("/predict", json=asked(tasks)).json["results"]
    assert {each["model_version"] for each in results} == {f"{version} (entropy)"}
    for task, each in zip(tasks, results, strict=True):
        (found,) = annotated_masks(
            task | {"annotations": [{"id": 1, "result": each["result"]}]}, label_map
        ).items()
        np.testing.assert_array_equal(found[1], volume[found[0].roi.slices][0] > 0)


def test_one_missing_image_leaves_the_others(http, serve, volume, make_task):
    serve(1)
    tasks = [make_task(1, volume="gone"), make_task(2)]
    answer = http.post("/predict", json=asked(tasks))
    assert answer.status_code == 200
    missing, found = answer.json["results"]
    assert missing == []
    assert found["result"]


def test_all_images_missing(http, serve, make_task):
    serve(1)
    answer = http.post("/predict", json=asked([make_task(1), make_task(2)]))
    assert answer.status_code == 422
    assert said(answer).startswith("Task 2 cannot be used: its image is missing")


def test_a_damaged_model_is_said(http, serve, settings, make_task):
    version = serve(1)
    weights = settings.data_root / "models" / "1" / version / "weights.safetensors"
    weights.write_bytes(b"")
    answer = http.post("/predict", json=asked([make_task(1)]))
    assert answer.status_code == 500
    assert "its checksum is not the one on the card" in said(answer)


@pytest.mark.parametrize("path", ["/setup", "/predict", "/webhook", "/validate", "/job_status"])
@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe", b"{}"])
def test_bad_json_is_refused(http, path, body):
    answer = http.post(path, data=body, content_type="application/json")
    fine = path == "/webhook" and body == b"{}"
    assert answer.status_code in {400, 422} or fine
    assert fine or said(answer)


@pytest.mark.parametrize("project", ["../1", "1/../../2", "-1", "", "current", None, "9" * 5000])
def test_a_project_that_is_no_number_is_refused(http, project):
    schema = {"schema": CONFIG, "label_config": CONFIG, "tasks": [], "project": project}
    for path in ("/setup", "/predict", "/webhook"):
        answer = http.post(path, json=schema | {"action": "PROJECT_UPDATED"})
        assert answer.status_code == 400
        assert "does not name its project" in said(answer)
    if project:
        assert http.get("/versions", query_string={"project": project}).status_code == 400


def test_a_configuration_that_expands_without_end_is_refused(http):
    bomb = '<!DOCTYPE v [<!ENTITY a "a"><!ENTITY b "&a;&a;">]><View>&b;</View>'
    answer = http.post("/predict", json=asked([], config=bomb))
    assert answer.status_code == 422
    assert "not plain XML" in said(answer)


def test_a_body_without_end_is_refused(http):
    answer = http.post("/predict", data=b"x" * (65 * 2**20), content_type="application/json")
    assert answer.status_code == 413


def test_versions_of_a_project_and_of_all(http, serve):
    mine, newer, other = serve(1), serve(1), serve(2)
    assert http.get("/versions").json == {"versions": [mine, newer, other]}
    assert http.get("/versions?project=1.1795343825").json == {"versions": [mine, newer]}
    assert http.post("/versions", json={"project": "2"}).json == {"versions": [other]}
    assert http.post("/versions", json=[1]).status_code == 400
    assert http.get("/versions?project=3").json == {"versions": []}


def test_validate(http):
    answer = http.post("/validate", json={"config": CONFIG})
    assert answer.status_code == 200
    assert answer.json["labels"] == ["mitochondria"]
    answer = http.post("/validate", json={"config": "<View/>"})
    assert answer.status_code == 422
    assert "no BrushLabels" in said(answer)


@pytest.mark.parametrize(("path", "status"), [("/nowhere", 404), ("/predict", 405)])
def test_what_is_not_there(http, path, status):
    answer = http.get(path)
    assert answer.status_code == status
    assert said(answer)


# Webhook


@pytest.mark.parametrize(
    "name",
    [
        "annotation_created",
        "annotation_skipped",
        "annotation_updated",
        "annotations_created",
        "annotations_deleted",
        "tasks_created",
        "project_updated",
    ],
)
def test_what_label_studio_tells_leads_to_a_turn(http, jobs, name):
    body = recorded(name)
    answer = http.post("/webhook", json=body)
    assert answer.status_code == 201
    (job_id,) = jobs.queue.job_ids
    assert answer.json["job"] == job_id
    assert jobs.job(job_id).args == [body["project"]["id"], False]


def test_the_button_start_training_trains(http, jobs):
    body = recorded("start_training")
    job_id = http.post("/webhook", json=body).json["job"]
    assert jobs.job(job_id).args == [body["project"]["id"], True]


@pytest.mark.parametrize("body", [recorded("tasks_deleted"), {"action": "LABEL_LINK_CREATED"}])
def test_what_does_not_matter_is_accepted_and_left_aside(http, jobs, body):
    assert http.post("/webhook", json=body).status_code == 200
    assert jobs.queue.job_ids == []


def test_repeated_webhooks_leave_one_job(http, jobs):
    answers = [http.post("/webhook", json=webhook()) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {201}
    assert len(jobs.queue.job_ids) == 1


def test_a_queue_that_is_away(http, jobs, redis_process):
    assert http.post("/webhook", json=webhook()).status_code == 201
    redis_process.stop()
    started = time.monotonic()
    answer = http.post("/webhook", json=webhook())
    assert time.monotonic() - started < WEBHOOK_LIMIT_S
    assert answer.status_code == 503
    assert said(answer).endswith("training starts by itself once it is back.")
    assert http.post("/predict", json=recorded("predict")).status_code == 200
    assert http.get("/health").status_code == 200
    redis_process.start()
    assert http.post("/webhook", json=webhook()).status_code == 201
    assert len(jobs.queue.job_ids) == 1


def test_a_queue_that_hangs(http, redis_process):
    os.kill(redis_process.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        answer = http.post("/webhook", json=webhook())
        took_s = time.monotonic() - started
    finally:
        os.kill(redis_process.pid, signal.SIGCONT)
    assert answer.status_code == 503
    assert took_s < WEBHOOK_LIMIT_S
    assert http.post("/webhook", json=webhook()).status_code == 201


def test_how_a_job_is_doing(http, jobs):
    job_id = http.post("/webhook", json=webhook()).json["job"]
    answer = http.post("/job_status", json={"job": job_id}).json
    assert answer["job_status"] == "queued"
    assert answer["started_at"] is None
    job = jobs.job(job_id)
    job.set_status(JobStatus.STARTED)
    job.meta.update(stage="training", done=3, total=10)
    job.save_meta()
    answer = http.post("/job_status", json={"job": job_id}).json
    assert answer["job_status"] == "started"
    assert answer["progress"] == {"stage": "training", "done": 3, "total": 10}


def test_a_job_that_is_not_known(http):
    answer = http.post("/job_status", json={"job": "turn-1-unknown"})
    assert answer.status_code == 400
    assert "turn-1-unknown" in said(answer)


# Credentials


@pytest.fixture
def guarded(make_app, settings):
    app = make_app(replace(settings, basic_auth_user="backend", basic_auth_pass="pässword:1"))
    with app.test_client() as client:
        yield client


def every_route(app):
    for rule in app.url_map.iter_rules():
        path = rule.rule.replace("<int:number>", "1").replace("<path:filename>", "status.css")
        for method in rule.methods - {"HEAD", "OPTIONS"}:
            yield method, path


@pytest.mark.parametrize(
    "auth",
    [None, ("backend", "wrong"), ("wrong", "pässword:1"), ("", ""), ("backend", "")],
)
def test_nobody_gets_in_without_the_credentials(guarded, auth):
    routes = list(every_route(guarded.application))
    assert ("POST", "/webhook") in routes
    for method, path in routes:
        answer = guarded.open(path, method=method, auth=auth, json=webhook())
        assert answer.status_code == (200 if path == "/health" else 401)
    assert guarded.get("/nowhere", auth=auth).status_code == 401


@pytest.mark.parametrize("value", ["Bearer abc", "Basic", "Basic !!", "Basic /w==", "Basic OmE="])
def test_other_credentials_do_not_get_in(guarded, value):
    answer = guarded.get("/", headers={"Authorization": value})
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Basic")
    assert said(answer)


def test_the_right_credentials_get_in(guarded):
    auth = ("backend", "pässword:1")
    assert guarded.post("/webhook", json=webhook(), auth=auth).status_code == 201
    assert guarded.post("/setup", json=recorded("setup"), auth=auth).status_code == 200
    assert guarded.post("/predict", json=recorded("predict"), auth=auth).status_code == 200
    for path in ("/", "/metrics", "/versions", "/projects/1/effort.csv"):
        assert guarded.get(path, auth=auth).status_code == 200


def test_without_credentials_everybody_gets_in(http):
    assert http.post("/webhook", json=webhook()).status_code == 201
