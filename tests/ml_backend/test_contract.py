import json
from pathlib import Path

import pytest

from biosegment.errors import ContractError
from biosegment.labels import LabelMap
from biosegment.labelstudio.payloads import shown_tiles
from ml_backend.contract import PredictRequest, WebhookAction, WebhookRequest, project_id

PAYLOADS = Path(__file__).with_name("payloads")


def recorded(name):
    return json.loads((PAYLOADS / f"{name}.json").read_text())


@pytest.mark.parametrize(
    ("name", "action"),
    [
        ("annotation_created", WebhookAction.ANNOTATION_CREATED),
        ("annotation_skipped", WebhookAction.ANNOTATION_CREATED),
        ("annotation_updated", WebhookAction.ANNOTATION_UPDATED),
        ("annotations_created", WebhookAction.ANNOTATIONS_CREATED),
        ("annotations_deleted", WebhookAction.ANNOTATIONS_DELETED),
        ("tasks_created", WebhookAction.TASKS_CREATED),
        ("project_updated", WebhookAction.PROJECT_UPDATED),
        ("start_training", WebhookAction.START_TRAINING),
    ],
)
def test_a_webhook_says_what_happened_in_which_project(name, action):
    body = recorded(name)
    assert WebhookRequest.parse(body) == WebhookRequest(action, body["project"]["id"])


@pytest.mark.parametrize("body", [recorded("tasks_deleted"), {"action": "LABEL_LINK_CREATED"}, {}])
def test_other_webhooks_are_left_aside(body):
    assert WebhookRequest.parse(body) == WebhookRequest(WebhookAction.OTHER, None)


def test_setup_names_its_project_and_its_labels():
    body = recorded("setup")
    assert "." in body["project"]
    assert project_id(body) == int(body["project"].split(".")[0])
    assert LabelMap.from_config(body["schema"]).names == ("background", "mitochondria")


def test_predict_brings_tasks_that_say_where_they_lie():
    body = recorded("predict")
    asked = PredictRequest.parse(body)
    assert asked.project_id == int(body["project"].split(".")[0])
    (tile,) = shown_tiles(asked.tasks[0])
    assert (tile.volume, tile.z, tile.y, tile.x) == ("sample", 3, 16, 32)
    assert LabelMap.from_config(asked.label_config).names == ("background", "mitochondria")


def test_recordings_hold_no_secret_and_no_address():
    for path in PAYLOADS.glob("*.json"):
        body = json.loads(path.read_text())
        assert body.get("access_token", "scrubbed") == "scrubbed"
        assert "localhost" not in path.read_text()
        assert isinstance(body["project"], str) or body["project"]["token"] == "scrubbed"


@pytest.mark.parametrize(
    ("value", "number"), [("12.1700000000", 12), ("12", 12), (12, 12), ({"id": 12}, 12), ("0", 0)]
)
def test_a_project_is_named_in_several_ways(value, number):
    assert project_id({"project": value}) == number


@pytest.mark.parametrize(
    "value",
    ["../1", "1/../2", "-1", "", "one", " 1", "1\n", "¹", "１", "9" * 5000, None, -1, True, [], {}],  # noqa: RUF001
)
def test_anything_else_does_not_name_a_project(value):
    for fields in ({"project": value}, {"project": {"id": value}}):
        with pytest.raises(ContractError, match="does not name its project"):
            project_id(fields)
    with pytest.raises(ContractError):
        project_id({})


@pytest.mark.parametrize("body", [None, [], "text", 3, [recorded("predict")]])
def test_a_body_that_is_no_object_is_refused(body):
    for kind in (PredictRequest, WebhookRequest):
        with pytest.raises(ContractError, match="JSON object"):
            kind.parse(body)


@pytest.mark.parametrize(
    "change",
    [
        {"tasks": None},
        {"tasks": {}},
        {"tasks": ["task"]},
        {"label_config": None},
        {"label_config": 3},
        {"project": None},
    ],
)
def test_a_prediction_needs_tasks_labels_and_project(change):
    with pytest.raises(ContractError):
        PredictRequest.parse(recorded("predict") | change)
