"""The loop heals by itself after a killed worker or Redis; bad input is told in one sentence."""

import os
import signal
import socket
import time

import httpx
import numpy as np
import psutil
import pytest
import tifffile

from biosegment.labels import LabelMap
from biosegment.labelstudio.connection import authorization_header
from biosegment.labelstudio.payloads import prediction_regions
from ml_backend.jobs import JobQueue, connect
from ml_backend.model_registry import ModelRegistry

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

TITLE = "Faults"


@pytest.fixture(scope="module")
def truth():
    mask = np.zeros((2, 256, 256), np.uint8)
    mask[:, 40:90, 60:200] = 1
    mask[:, 150:230, 20:80] = 1
    return mask


@pytest.fixture(scope="module")
def project(stack, truth, tmp_path_factory):
    path = tmp_path_factory.mktemp("bars") / "bars.tif"
    noise = np.random.default_rng(0).normal(150, 15, truth.shape) - 70.0 * truth
    tifffile.imwrite(path, noise.clip(0, 255).astype(np.uint8), photometric="minisblack")
    arguments = [str(path), "--project", TITLE, "--labels", "bar", "--tile", "64"]
    done = stack.cli("import", *arguments, "--retrain-every", "4")
    assert done.returncode == 0, done.stderr
    return stack.client.find_project(TITLE)


def annotation_ids(stack, project):
    tasks = stack.client.annotated_tasks(project["id"])
    return {str(annotation["id"]) for task in tasks for annotation in task["annotations"]}


def known_to_model(stack, project):
    registry = ModelRegistry(stack.data_root)
    version = registry.current(project["id"])
    return set(registry.card(project["id"], version).annotations) if version else set()


@pytest.fixture(scope="module")
def trained(stack, project, truth, wait_until):
    """The project once its first version orders the queue."""
    stack.annotate(project, truth, 4)
    current = ModelRegistry(stack.data_root).current
    version = wait_until(lambda: current(project["id"]), 300, "a version is there")
    wait_until(
        lambda: (
            stack.client.project(project["id"])["model_version"] == f"{version} (spaced_entropy)"
        ),
        60,
        "it serves",
    )
    return project


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def redis_pid(stack):
    [pid] = stack.pids("redis-server")
    return pid


def predict(stack, project, task):
    body = {
        "tasks": [task],
        "project": f"{project['id']}.1",
        "label_config": project["label_config"],
        "params": {},
    }
    headers = authorization_header(stack.settings)
    return httpx.post(
        f"{stack.settings.backend_url}/predict", json=body, headers=headers, timeout=60
    )


def test_a_killed_worker_leaves_the_old_version_serving(stack, trained, truth, wait_until):
    registry, project_id = ModelRegistry(stack.data_root), trained["id"]
    jobs = JobQueue(connect(stack.settings))
    before = registry.current(project_id)
    stack.annotate(trained, truth, 4)

    def is_training():
        job = jobs.running(project_id)
        return job is not None and job.get_meta().get("stage") == "training"

    wait_until(is_training, 120, "a training runs")
    workers = stack.pids("ml_backend.worker")
    os.kill(workers[0], signal.SIGKILL)

    assert registry.current(project_id) == before
    task = stack.client.next_task(project_id)
    answer = predict(stack, trained, task)
    assert answer.json()["results"][0]["model_version"] == f"{before} (spaced_entropy)"
    # The job dies with its worker: nobody is left who trains for a result that nobody hears of.
    wait_until(lambda: not any(map(is_alive, workers)), 30, "the worker and its job are gone")
    wait_until(lambda: registry.current(project_id) != before, 300, "the next run succeeds")
    assert known_to_model(stack, trained) == annotation_ids(stack, trained)
    wait_until(
        lambda: (
            stack.client.project(project_id)["model_version"]
            == f"{registry.current(project_id)} (spaced_entropy)"
        ),
        120,
        "the queue follows it",
    )


def test_nothing_is_lost_while_redis_is_away(stack, trained, truth, wait_until):
    project_id = trained["id"]
    before = ModelRegistry(stack.data_root).current(project_id)
    backend = stack.settings.backend_url
    headers = authorization_header(stack.settings)
    event = {"action": "ANNOTATION_CREATED", "project": {"id": project_id}}

    pid = redis_pid(stack)
    os.kill(pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = httpx.post(f"{backend}/webhook", json=event, headers=headers, timeout=5)
        assert time.monotonic() - began < 1.0
        assert answer.status_code == 503
        assert answer.json()["error"].startswith("The job queue (Redis at ")
        stack.annotate(trained, truth, 4)
        task = stack.client.next_task(project_id)
        [answer] = predict(stack, trained, task).json()["results"]
        assert answer["model_version"] == f"{before} (spaced_entropy)"
    finally:
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGKILL)

    registry = ModelRegistry(stack.data_root)
    wait_until(lambda: registry.current(project_id) != before, 300, "training caught up")
    assert known_to_model(stack, trained) == annotation_ids(stack, trained)


def test_annotations_during_a_training_lead_to_one_more(stack, trained, truth, wait_until):
    registry, project_id = ModelRegistry(stack.data_root), trained["id"]
    jobs = JobQueue(connect(stack.settings))
    wait_until(lambda: jobs.running(project_id) is None, 300, "the loop is idle")
    count = len(registry.cards(project_id))
    stack.annotate(trained, truth, 4)
    wait_until(lambda: jobs.running(project_id) is not None, 60, "a turn runs")
    wait_until(lambda: len(registry.cards(project_id)) == count, 1, "it is still training")
    stack.annotate(trained, truth, 8)
    wait_until(
        lambda: known_to_model(stack, trained) == annotation_ids(stack, trained), 300, "all known"
    )
    wait_until(
        lambda: jobs.running(project_id) is None and len(jobs.queue) == 0, 300, "the loop is idle"
    )
    assert len(registry.cards(project_id)) == count + 2


def test_unusable_annotations_do_not_train_for_ever(stack, trained, truth, wait_until):
    registry, project_id = ModelRegistry(stack.data_root), trained["id"]
    jobs = JobQueue(connect(stack.settings))

    def is_idle():
        return jobs.running(project_id) is None and len(jobs.queue) == 0

    wait_until(is_idle, 300, "the loop is idle")
    count = len(registry.cards(project_id))
    label_map = LabelMap.from_config(trained["label_config"])
    broken = prediction_regions([np.ones((8, 8), np.uint8)], label_map.names, label_map)
    ids = set()
    for _ in range(4):
        task = stack.client.next_task(project_id)
        ids.add(str(stack.client.annotate(task["id"], broken, 1.0)["id"]))
    wait_until(lambda: len(registry.cards(project_id)) > count, 300, "a version is there")
    assert set(registry.cards(project_id)[-1].left_out) == ids
    wait_until(is_idle, 300, "the loop is idle")
    jobs.request_turn(project_id)
    wait_until(is_idle, 300, "the turn is over")
    assert len(registry.cards(project_id)) == count + 1


def test_a_damaged_model_is_replaced_by_the_next_training(stack, trained, wait_until):
    registry, project_id = ModelRegistry(stack.data_root), trained["id"]
    damaged = registry.current(project_id)
    weights = stack.data_root / "models" / str(project_id) / damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    done = stack.cli("train", TITLE)
    assert done.returncode == 0, done.stderr
    assert "queued" in done.stdout
    wait_until(lambda: registry.current(project_id) != damaged, 300, "a new version serves")
    assert registry.card(project_id, registry.current(project_id)).parent is None


def test_a_project_that_does_not_exist_is_one_sentence(stack, project):
    done = stack.cli("train", "Nowhere")
    assert done.returncode == 1
    assert "has no project 'Nowhere'" in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["missing.tif", "--project", "New", "--labels", "a"], "missing.tif"),
        (["{truncated}", "--project", "New", "--labels", "a"], "truncated.tif cannot be read"),
        (["{mixed}", "--project", "New", "--labels", "a"], "b.tif"),
        (["{good}", "--project", "New", "--labels", "a,a"], "every label needs a name"),
        (["{good}", "--project", "New", "--labels", "a", "--strategy", "best"], "no strategy 'b"),
        (["{good}", "--project", TITLE, "--labels", "other"], "has the labels bar"),
        (["{good}", "--project", "New", "--labels", "a", "--name", "../up"], "cannot name a vol"),
    ],
)
def test_bad_input_is_one_sentence_and_makes_nothing(stack, project, tmp_path, arguments, sentence):
    good = np.random.default_rng(0).integers(0, 255, (3, 64, 64), np.uint8)
    tifffile.imwrite(tmp_path / "good.tif", good, photometric="minisblack")
    whole = (tmp_path / "good.tif").read_bytes()
    (tmp_path / "truncated.tif").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "mixed").mkdir()
    tifffile.imwrite(tmp_path / "mixed" / "a.tif", good[0])
    tifffile.imwrite(tmp_path / "mixed" / "b.tif", good[0, :32])
    places = {name: str(tmp_path / name) for name in ("good.tif", "truncated.tif", "mixed")}
    filled = [
        argument.format(
            good=places["good.tif"], truncated=places["truncated.tif"], mixed=places["mixed"]
        )
        for argument in arguments
    ]
    before = sorted(path.name for path in (stack.data_root / "volumes").iterdir())
    done = stack.cli("import", *filled)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert sentence in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert [p["title"] for p in stack.client.projects()].count("New") == 0
    assert sorted(path.name for path in (stack.data_root / "volumes").iterdir()) == before


def test_a_wrong_token_is_one_sentence(stack, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 32, 32), np.uint8), photometric="minisblack")
    environment = {
        "LABEL_STUDIO_URL": stack.settings.label_studio_url,
        "LABEL_STUDIO_API_KEY": "f" * 40,
    }
    done = stack.cli(
        "import", str(tmp_path / "a.tif"), "--project", "New", "--labels", "a", **environment
    )
    assert done.returncode == 1
    assert "refused the token" in done.stderr
    assert "f" * 40 not in done.stderr


def test_a_port_in_use_is_one_sentence(stack, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = stack.cli("up", "--port", str(port), BIOSEGMENT_DATA=str(tmp_path / "data"))
    assert done.returncode == 1
    assert f"Port {port} is in use" in done.stderr


def test_a_second_stack_on_the_same_folder_is_refused(stack, new_stack):
    other = new_stack(stack.data_root.parent)
    ports = ["--port", str(other.port), "--backend-port", str(other.backend_port)]
    done = stack.cli("up", *ports)
    assert done.returncode == 1
    assert "A stack is already running on the data folder" in done.stderr
    assert stack.client.projects() is not None
