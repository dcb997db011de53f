"""The requests in the folder ``payloads`` are those that the real Label Studio sends.

When Label Studio changes what it sends, the failing test says where the new recording lies.
"""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import numpy as np
import pytest

from biosegment.labels import LabelMap, labelling_config
from biosegment.labelstudio.payloads import prediction_regions, task_data
from biosegment.tiles import Tile

PAYLOADS = Path(__file__).with_name("payloads")
TILE = Tile("sample", 3, 16, 32, 8, 8)
CONFIG = labelling_config(["mitochondria"])
CREATED, SKIPPED = 0, 1
RECORDED = {
    "setup": ("/setup", None, 0),
    "predict": ("/predict", None, 0),
    "annotation_created": ("/webhook", "ANNOTATION_CREATED", CREATED),
    "annotation_skipped": ("/webhook", "ANNOTATION_CREATED", SKIPPED),
    "annotation_updated": ("/webhook", "ANNOTATION_UPDATED", 0),
    "annotations_created": ("/webhook", "ANNOTATIONS_CREATED", 0),
    "annotations_deleted": ("/webhook", "ANNOTATIONS_DELETED", 0),
    "tasks_created": ("/webhook", "TASKS_CREATED", 0),
    "tasks_deleted": ("/webhook", "TASKS_DELETED", 0),
    "project_updated": ("/webhook", "PROJECT_UPDATED", 0),
    "start_training": ("/webhook", "START_TRAINING", 0),
}
"""Name of the file -> route, action, and which of those requests."""
SCRUBBED = {
    "access_token": "scrubbed",
    "token": "scrubbed",
    "hostname": "http://label-studio.example",
    "unique_id": "00000000-0000-0000-0000-000000000000",
    "label_config_hash": 0,
}
EVERYTHING = {"selectedItems": {"all": True, "excluded": []}}
ANSWERS = {
    "/health": {"status": "UP", "model_class": "Recorder"},
    "/setup": {"model_version": "0001-20261122T101530"},
    "/webhook": {"status": "queued", "job": "turn-1-forced-1"},
}


class Recorder(ThreadingHTTPServer):
    """An ML backend that writes down every request."""

    daemon_threads = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), RecordingHandler)
        self.requests = []
        self.url = f"http://localhost:{self.server_port}"

    def bodies(self, path, action=None):
        bodies = [body for asked, body in self.requests if asked == path]
        return [body for body in bodies if action in {None, body.get("action")}]


class RecordingHandler(BaseHTTPRequestHandler):
    def do_GET(self):
        self._answer(None)

    def do_POST(self):
        self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, body):
        answer = ANSWERS.get(self.path, {})
        if self.path == "/predict":
            answer = {"results": [{"result": [], "score": 0.5} for _ in body["tasks"]]}
        self.server.requests.append((self.path, body))
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def recorder():
    server = Recorder()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def recorded(stack, recorder, tmp_path_factory):
    """The folder of what Label Studio sends while a project is made, labelled and cleared."""
    settings = stack.settings
    headers = {"Authorization": f"Token {settings.label_studio_api_key}"}
    with httpx.Client(base_url=settings.label_studio_url, headers=headers, timeout=60) as api:

        def call(method, path, body=None):
            response = api.request(method, path, json=body)
            response.raise_for_status()
            return response.json() if response.content else None

        made = call("POST", "/api/projects/", {"title": "Recorded", "label_config": CONFIG})
        project = made["id"]
        connection = {"project": project, "url": recorder.url, "title": "Recorder"}
        options = {"extra_params": {"strategy": "entropy"}}
        backend = call("POST", "/api/ml", connection | options)["id"]
        _label(call, project)
        call("PATCH", f"/api/projects/{project}/", {"label_config": labelling_config(["cell"])})
        call("POST", f"/api/ml/{backend}/train", {})
        call("POST", f"/api/dm/actions/?project={project}&id=delete_tasks", EVERYTHING)
        call("DELETE", f"/api/projects/{project}/")
    folder = tmp_path_factory.mktemp("payloads")
    for name, (path, action, index) in RECORDED.items():
        content = json.dumps(scrub(recorder.bodies(path, action)[index]), indent=1)
        (folder / f"{name}.json").write_text(f"{content}\n")
    return folder


def _label(call, project):
    data = task_data(TILE, context=0, depth=9)
    call("POST", f"/api/projects/{project}/import", [{"data": data}] * 2)
    tasks = call("GET", f"/api/tasks/?project={project}")["tasks"]
    first, second = (task["id"] for task in tasks)
    call("GET", f"/api/tasks/{first}/?project={project}")
    names, label_map = ["background", "mitochondria"], LabelMap.from_config(CONFIG)
    painted = prediction_regions([np.eye(8, dtype=np.uint8)], names, label_map)
    annotation = {"result": painted, "lead_time": 4.5}
    made = call("POST", f"/api/tasks/{first}/annotations/", annotation)["id"]
    call("PATCH", f"/api/annotations/{made}/", {"result": painted, "lead_time": 6.0})
    call("POST", f"/api/tasks/{second}/annotations/", {"result": [], "was_cancelled": True})
    call("DELETE", f"/api/annotations/{made}/")
    act = f"/api/dm/actions/?project={project}&id=predictions_to_annotations"
    call("POST", act, EVERYTHING)


def scrub(value, key=""):
    """Return a payload without secrets, and without what differs from run to run."""
    if isinstance(value, dict):
        return {name: scrub(each, name) for name, each in value.items()}
    if isinstance(value, list):
        return [scrub(each) for each in value]
    if key.endswith("_at") and value is not None:
        return "2026-11-22T10:15:30.000000Z"
    return SCRUBBED.get(key, value)


def shape(value):
    """Return the keys and types of a payload."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shape(each) for each in value[:1]]
    return type(value).__name__


@pytest.mark.stack
@pytest.mark.parametrize("name", RECORDED)
def test_label_studio_sends_what_is_recorded(recorded, name):
    sent = json.loads((recorded / f"{name}.json").read_text())
    kept = json.loads((PAYLOADS / f"{name}.json").read_text())
    assert shape(sent) == shape(kept), f"the new recording is {recorded / name}.json"


@pytest.mark.stack
def test_label_studio_asks_for_health_before_it_sets_up(recorded, recorder):
    paths = [path for path, _ in recorder.requests]
    assert paths.index("/health") < paths.index("/setup") < paths.index("/predict")
