import os
import re
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from biosegment.labels import labelling_config
from ml_backend import metrics_page
from ml_backend.segmentation import SegmentationPlan
from ml_backend.segmentation_job import Order
from ml_backend.worker import LoopWorker

ROOT = Path(__file__).parents[2]


def parsed(text):
    """Return each sample by its series and its labels' values, in the order of their names."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def metrics(http):
    answer = http.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    return parsed(answer.text)


def webhook(project=1):
    return {"action": "ANNOTATION_CREATED", "project": {"id": project}}


WORKER = """
from biosegment.settings import Settings
from ml_backend.worker import LoopWorker
LoopWorker(Settings.from_env()).work(burst=True, logging_level="ERROR")
"""


@pytest.fixture
def work(settings):
    """Let a worker do what waits.

    It is a program of its own: where torch has computed on several threads, as it may have here,
    forks wait for these threads for ever.
    """
    environ = os.environ | settings.environment()
    return lambda: subprocess.run([sys.executable, "-c", WORKER], env=environ, check=True)


def segmentation(version, name="made"):
    return asdict(Order("sample", name, SegmentationPlan(3, version, flips=False)))


def test_requests_are_counted_by_route_and_by_what_was_wrong(http):
    http.post("/webhook", json=webhook())
    http.get("/nowhere")
    http.post("/predict", data=b"{")
    http.get("/projects/3/options")
    found = metrics(http)
    assert found["biosegment_requests_total", "contract_api.webhook", "201"] == 1
    assert found["biosegment_requests_total", "contract_api.predict", "400"] == 1
    assert found["biosegment_requests_total", "unknown", "404"] == 1
    assert found["biosegment_request_duration_seconds_count", "contract_api.webhook"] == 1
    errors = {key[1:]: count for key, count in found.items() if key[0] == "biosegment_errors_total"}
    assert errors == {
        ("ContractError", "contract_api.predict"): 1,
        ("NotFound", "unknown"): 1,
        ("LabelStudioError", "pages.options"): 1,
    }


def test_predictions_are_counted_by_what_came_of_them(http, serve, volume, make_task):
    serve(1)
    tasks = [make_task(1, z=0), make_task(2, z=4), make_task(3, z=99), make_task(4, z=4)]
    body = {"tasks": tasks, "project": "1.2", "label_config": labelling_config(["mitochondria"])}
    assert http.post("/predict", json=body).status_code == 200
    found = metrics(http)
    assert found["biosegment_predictions_total", "mask"] == 1
    assert found["biosegment_predictions_total", "empty"] == 2
    assert found["biosegment_predictions_total", "unreadable"] == 1


def test_models_and_disk(http, serve, serve_rounds):
    serve_rounds(1)
    serve(2)
    found = metrics(http)
    assert found["biosegment_model_versions", "1"] == 3
    assert found["biosegment_labels", "1"] == 8
    assert found["biosegment_live_iou", "1"] == pytest.approx(17 / 23)
    assert ("biosegment_live_iou", "2") not in found
    assert 0 < found["biosegment_data_free_bytes",] < found["biosegment_data_size_bytes",]


def test_what_became_of_jobs(http, jobs, serve, volume, work):
    """Each job runs in a process of its own, and the worker ends as well."""
    version = serve(3)
    jobs.request_turn(8)
    jobs.request_segmentation(segmentation(version))
    jobs.request_segmentation(segmentation("0001-20200101T000000", "never"))
    found = metrics(http)
    assert found["biosegment_jobs", "turn", "8", "queued"] == 1
    assert found["biosegment_jobs", "segment", "3", "queued"] == 2
    assert found["biosegment_queue_age_seconds",] > 0
    assert found["biosegment_workers",] == 0
    work()
    found = metrics(http)
    assert found["biosegment_jobs", "turn", "8", "failed"] == 1
    assert found["biosegment_jobs", "segment", "3", "failed"] == 1
    assert found["biosegment_jobs", "segment", "3", "finished"] == 1
    assert found["biosegment_queue_age_seconds",] == 0
    assert found["biosegment_jobs_ended_total", "turn", "failed"] == 1
    assert found["biosegment_jobs_ended_total", "segment", "failed"] == 1
    assert found["biosegment_jobs_ended_total", "segment", "finished"] == 1
    name = "biosegment_job_duration_seconds"
    assert found[f"{name}_count", "segment"] == found[f"{name}_bucket", "segment", "+Inf"] == 2
    assert found[f"{name}_bucket", "segment", "3600"] == 2
    assert 0 < found[f"{name}_sum", "segment"] < 3600
    assert found[f"{name}_count", "turn"] == 1


def test_a_worker_is_counted_while_it_lives(http, jobs, settings):
    worker = LoopWorker(settings)
    worker.register_birth()
    found = metrics(http)
    assert found["biosegment_workers",] == 1
    [age] = [v for k, v in found.items() if k[0] == "biosegment_worker_heartbeat_age_seconds"]
    assert 0 <= age < 60
    # What a killed one leaves behind once its heartbeat has run out.
    jobs.connection.delete(worker.key)
    assert metrics(http)["biosegment_workers",] == 0


def test_a_job_whose_worker_died_is_counted_once(http, jobs, settings):
    worker = LoopWorker(settings)
    job = jobs.job(jobs.request_turn(3))
    worker.register_birth()
    worker.prepare_execution(job)
    worker.prepare_job_execution(job)
    registry = jobs.queue.started_job_registry
    # Its heartbeat ran out long ago.
    for member, _ in jobs.connection.zscan_iter(registry.key):
        jobs.connection.zadd(registry.key, {member: 1})
    for _ in range(2):
        found = metrics(http)
        assert found["biosegment_jobs_ended_total", "turn", "abandoned"] == 1
        assert found["biosegment_jobs", "turn", "3", "failed"] == 1
    assert ("biosegment_job_duration_seconds_count", "turn") not in found


def test_any_number_of_projects_makes_a_bounded_number_of_series(http, jobs, serve, monkeypatch):
    monkeypatch.setattr(metrics_page, "MAX_PROJECTS", 3)
    for number in range(1, 7):
        serve(number)
        jobs.request_turn(number)
    found = metrics(http)
    projects = {key[2] for key in found if key[0] == "biosegment_jobs"}
    assert projects == {"4", "5", "6", "other"}
    assert found["biosegment_jobs", "turn", "other", "queued"] == 3
    assert len([key for key in found if key[0] == "biosegment_labels"]) == 3


def test_without_redis_the_rest_is_there(http, redis_process, settings):
    redis_process.stop()
    found = metrics(http)
    assert found["biosegment_queue_up",] == 0
    assert not [key for key in found if key[0] == "biosegment_jobs"]
    redis_process.start()
    assert metrics(http)["biosegment_queue_up",] == 1


THREE_PROCESSES = """
import os
from biosegment.settings import Settings
from ml_backend.app import create_app
http = create_app(Settings.from_env()).test_client()
for requests in (1, 2, 4):
    child = os.fork()
    if child == 0:
        for _ in range(requests):
            http.get("/versions")
        os._exit(0)
    os.waitpid(child, 0)
print(http.get("/metrics").text)
"""


def test_counts_are_those_of_all_processes(settings, tmp_path):
    environ = settings.environment() | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", THREE_PROCESSES],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=True,
    )
    found = parsed(done.stdout)
    assert found["biosegment_requests_total", "contract_api.versions", "200"] == 7
    assert found["biosegment_queue_up",] == 1


def documented():
    return set(
        re.findall(r"^\| `(biosegment_\w+)`", (ROOT / "docs/monitoring.md").read_text(), re.M)
    )


def family(series):
    """Return the name that a series' type is given under."""
    return re.sub(r"_(bucket|count|sum)$", "", series)


def test_every_series_is_documented(http, jobs, serve_rounds, volume, work, settings):
    serve_rounds(3)
    jobs.request_turn(3)
    LoopWorker(settings).register_birth()
    work()
    http.get("/nowhere")
    text = http.get("/metrics").text
    shown = set(re.findall(r"^# TYPE (biosegment_\w+)", text, re.M))
    assert documented() == {name for name in shown if not name.endswith("_created")}


def test_alerts_name_series_that_exist():
    groups = yaml.safe_load((ROOT / "deploy" / "alerts.yml").read_text())["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) > 5
    for rule in rules:
        used = set(re.findall(r"\bbiosegment_\w+", rule["expr"]))
        assert {family(series) for series in used} <= documented(), rule["alert"]
        assert used or "up{" in rule["expr"]
        assert rule["annotations"]["summary"]
