"""No secret is in a log, an answer, a page, a metric, a command line, or Redis, whatever fails."""

import base64
import os
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from rq.job import JobStatus

from ml_backend.jobs import JobQueue
from tests.security.conftest import SECRETS, USER

CONFIG = (
    "<View><Image name='image' value='$image'/><BrushLabels name='label' toName='image'>"
    "<Label value='mitochondria'/></BrushLabels></View>"
)
KNOWN = tuple(SECRETS.values())


def disguised(secrets):
    """Return secrets as they are, and as they travel."""
    pair = f"{USER}:{SECRETS['BASIC_AUTH_PASS']}"
    texts = [
        *secrets,
        pair,
        *(base64.b64encode(each.encode()).decode() for each in (*secrets, pair)),
    ]
    return [text.encode() for text in texts]


def told(content, secrets=KNOWN):
    """Return which secrets a text or bytes tell."""
    content = content.encode() if isinstance(content, str) else content
    return [secret for secret in disguised(secrets) if secret in content]


def unpacked(value):
    """Yield bytes as they are in Redis, and what they unpack to."""
    yield value
    for unpack in (zlib.decompress, lambda each: zlib.decompress(base64.b64decode(each))):
        with suppress(zlib.error, ValueError):
            yield unpack(value)


def everything(connection):
    """Yield all that Redis holds: keys, fields and values."""
    for key in connection.scan_iter():
        yield key
        match connection.type(key):
            case b"hash":
                found = [part for pair in connection.hgetall(key).items() for part in pair]
            case b"list":
                found = connection.lrange(key, 0, -1)
            case b"set":
                found = connection.smembers(key)
            case b"zset":
                found = connection.zrange(key, 0, -1)
            case b"stream":
                entries = [fields for _, fields in connection.xrange(key)]
                found = [part for fields in entries for pair in fields.items() for part in pair]
            case _:
                found = [connection.get(key) or b""]
        for value in found:
            yield from unpacked(value)


@pytest.fixture(scope="module")
def answers(installation):
    """Everything that the backend answers while much fails: Label Studio is away, too."""
    found = []
    routes = ["/", "/metrics", "/versions", "/projects/1/options", "/projects/1/segment"]
    routes += ["/projects/1/curve.svg", "/projects/1/effort.csv", "/nowhere", "/projects/x"]
    routes += ["/projects/1/uncertainty/sample", "/static/nothing", "/health"]
    bodies = [{}, {"project": 1, "action": "START_TRAINING"}, {"project": "../1", "schema": "<"}]
    bodies += [{"project": 1, "tasks": [{}], "label_config": CONFIG}, {"job": "turn-1"}]
    bodies += [{"project": 1, "schema": CONFIG}, {"config": "<a"}]
    for auth in (installation.auth, (USER, "wrong"), None):
        with httpx.Client(base_url=installation.url, auth=auth, timeout=60) as client:
            found += [client.get(path) for path in routes]
            for path in ("/setup", "/predict", "/webhook", "/versions", "/validate", "/job_status"):
                found += [client.post(path, json=body) for body in bodies]
                found.append(client.post(path, content=b"{"))
            found.append(client.post("/projects/1/options", data={"strategy": "x"}))
    return found


@pytest.fixture(scope="module")
def failed(installation, answers, wait_until):
    """A turn, a search and a segmentation that failed on the worker."""
    # Workers take segmentations where they see volumes.
    (installation.settings.data_root / "volumes" / "other.ome.zarr").mkdir(parents=True)
    with installation.connect() as connection:
        jobs = JobQueue(connection)
        order = {"volume": "a", "name": "b", "plan": {"project_id": 1, "version": "c"}}
        asked = [jobs.request_turn(7), jobs.request_tuning(7, 3), jobs.request_segmentation(order)]
        for job_id in asked:
            job = jobs.job(job_id)
            wait_until(lambda job=job: job.get_status() is JobStatus.FAILED, 120, "it has failed")
    return asked


def test_answers_tell_no_secret(answers):
    assert {answer.status_code for answer in answers} >= {200, 400, 401, 404, 422, 502}
    for answer in answers:
        assert told(answer.content) == []
        assert told(str(answer.headers)) == []
        assert "Traceback" not in answer.text


def test_a_failed_job_tells_no_secret_on_the_status_page(installation, failed):
    page = httpx.get(installation.url, auth=installation.auth, timeout=60).text
    assert "Label Studio" in page
    assert told(page) == []


def test_logs_tell_no_secret(installation, failed):
    for name in ("backend", "worker", "redis"):
        assert told(installation.log(name)) == []
    assert "Traceback" in installation.log("worker")


def test_redis_holds_no_secret(installation, failed):
    with installation.connect() as connection:
        content = list(everything(connection))
    assert any(b"LabelStudioError" in each for each in content)
    assert [secret for each in content for secret in told(each)] == []


def test_command_lines_tell_no_secret(installation):
    for pid in installation.pids():
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            assert told(" ".join(each.cmdline())) == []


def test_files_tell_no_secret(installation, failed):
    for path in (installation.folder / "data").rglob("*"):
        assert not path.is_file() or told(path.read_bytes()) == []


FAILING = """
import os, sys, traceback
from biosegment.cli import main
from biosegment.settings import Settings
from ml_backend.worker import LoopWorker

sys.argv[1:] = ["status"]
before = dict(os.environ)
for name, value in {cases}:
    os.environ.clear()
    os.environ.update(before | {{name: value}})
    for start in (main, lambda: LoopWorker(Settings.from_env()).work(burst=True)):
        try:
            start()
        except SystemExit:
            pass
        except Exception:
            traceback.print_exc()
"""


def test_programs_that_fail_tell_no_secret(installation):
    queue, backend = SECRETS["REDIS_PASSWORD"], SECRETS["BASIC_AUTH_PASS"]
    wrong = installation.environment["REDIS_URL"].replace(queue, backend)
    cases = [
        ("LABEL_STUDIO_URL", "http://127.0.0.1:1"),
        ("LABEL_STUDIO_API_KEY", f"{queue}\u20ac"),
        ("REDIS_URL", wrong),
        ("REDIS_URL", f"redis://:{queue}@127.0.0.1:none/0"),
        ("REDIS_URL", f"redis://:{queue}@127.0.0.1:1/0"),
        ("REDIS_URL", f"http://:{queue}@127.0.0.1/0"),
        ("LABEL_STUDIO_URL", f"http://a:{queue}@127.0.0.1:1"),
        ("BIOSEGMENT_BACKEND_URL", f"http://a:{queue}@127.0.0.1:1"),
        ("BASIC_AUTH_USER", ""),
        ("BIOSEGMENT_LOG_LEVEL", "none"),
    ]
    done = subprocess.run(
        [sys.executable, "-c", FAILING.format(cases=cases)],
        env={**os.environ, **installation.environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert said.count("Error") >= len(cases)
    assert told(said) == []


def test_settings_and_stack_do_not_show_secrets(installation, tmp_path):
    from biosegment.stack import Stack

    settings = installation.settings
    stack = Stack(settings, SECRETS["REDIS_PASSWORD"], 1, 2, tmp_path)
    assert told(f"{settings!r} {stack!r}") == []


@pytest.mark.stack
def test_nothing_that_label_studio_logs_tells_a_secret(stack):
    settings = stack.settings
    secrets = [settings.label_studio_api_key, settings.basic_auth_pass, stack.login[1]]
    for path in (stack.data_root / "stack" / "logs").iterdir():
        assert told(path.read_bytes(), secrets) == [], path
    page = httpx.get(
        settings.backend_url, auth=(settings.basic_auth_user, settings.basic_auth_pass), timeout=60
    )
    assert told(page.text, secrets) == []
    assert Path(stack.data_root / "stack" / "connection.env").stat().st_mode & 0o077 == 0
