"""The doctor finds what is broken, on installations of which one part really is."""

import json
import os
import signal
import socket
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import numpy as np
import pytest
import tifffile
from rq.utils import utcformat
from werkzeug.serving import make_server

from biosegment.findings import Level
from biosegment.labelstudio import checks
from biosegment.labelstudio.connection import authorization_header
from biosegment.supervisor import redis_server
from ml_backend import doctor
from ml_backend.app import create_app
from ml_backend.doctor import examine
from ml_backend.jobs import connect
from ml_backend.worker import LoopWorker

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

TITLE = "Doctor"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def failures(settings):
    return [(f.check, f.sentence) for f in examine(settings) if f.level is Level.FAILURE]


def warnings(settings):
    return [(f.check, f.sentence) for f in examine(settings) if f.level is Level.WARNING]


@pytest.fixture(scope="module")
def project(stack, tmp_path_factory):
    path = tmp_path_factory.mktemp("doctor") / "doctor.tif"
    tifffile.imwrite(path, np.zeros((1, 64, 64), np.uint8), photometric="minisblack")
    arguments = [str(path), "--project", TITLE, "--labels", "bar", "--tile", "64"]
    done = stack.cli("import", *arguments)
    assert done.returncode == 0, done.stderr
    return stack.client.find_project(TITLE)


@pytest.fixture
def settings_here(stack, project):
    """Settings of a sound installation with a project."""
    return stack.settings


def test_a_sound_installation(stack, project):
    done = stack.cli("doctor", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"]
    found = {(each["check"], each["level"]) for each in answer["findings"]}
    parts = "Label Studio,clock,token,private addresses,projects,backend,tiles,Redis,workers,GPU"
    assert found >= {(part, "ok") for part in [*parts.split(","), "software"]}
    assert "failure" not in {level for _, level in found}
    sentences = " ".join(each["sentence"] for each in answer["findings"])
    assert "A legacy token is accepted." in sentences
    assert f"1 live (1 on {socket.gethostname()})" in sentences
    secrets = [stack.settings.label_studio_api_key, stack.settings.basic_auth_pass]
    assert not [secret for secret in secrets if secret in done.stdout]
    assert not list((stack.data_root / "tiles").rglob("doctor-*"))


def test_an_installation_given_by_variables(stack, project):
    environ = stack.settings.environment()
    done = stack.cli("doctor", **environ | {"LABEL_STUDIO_API_KEY": "f" * 40})
    assert done.returncode == 1
    [line] = [line for line in done.stdout.splitlines() if line.startswith("failure")]
    assert "token: The token is refused as a legacy token; set LABEL_STUDIO_API_KEY" in line
    assert "f" * 40 not in done.stdout + done.stderr


def test_no_label_studio(settings_here):
    url = f"http://127.0.0.1:{free_port()}"
    [(check, sentence)] = failures(replace(settings_here, label_studio_url=url))
    assert check == "Label Studio"
    assert sentence == (
        f"No Label Studio answers at {url}; start it, or set LABEL_STUDIO_URL to its address."
    )


def test_something_else_than_label_studio(settings_here):
    [(_, sentence)] = failures(replace(settings_here, label_studio_url=settings_here.backend_url))
    assert sentence.startswith("No Label Studio answers")


def test_no_token(settings_here):
    [(check, sentence)] = failures(replace(settings_here, label_studio_api_key=""))
    assert check == "token"
    assert sentence.startswith("There is no token; set LABEL_STUDIO_API_KEY")


@pytest.mark.filterwarnings("ignore:The `parse_obj` method")  # of label-studio-sdk
def test_a_personal_access_token(stack, settings_here):
    token = stack.client._json("POST", "api/token/")["token"]
    found = list(examine(replace(settings_here, label_studio_api_key=token)))
    assert "A personal access token is accepted." in [each.sentence for each in found]
    broken = token[:-6] + "AAAAAA"
    [(check, sentence)] = failures(replace(settings_here, label_studio_api_key=broken))
    assert check == "token"
    assert sentence.startswith("The personal access token is refused")
    # Label Studio has at most one for a user, and others share the stack.
    stack.client._request("POST", "api/token/blacklist/", json={"refresh": token})


def test_an_address_that_label_studio_may_not_call(settings_here):
    found = failures(replace(settings_here, backend_url="http://169.254.10.10:9090"))
    assert [check for check, _ in found] == ["private addresses", "backend"]
    assert "USE_DEFAULT_BANNED_SUBNETS=false" in found[0][1]
    found = failures(replace(settings_here, backend_url="http://backend.invalid:9090"))
    assert "does not know the machine 'backend.invalid'" in found[0][1]


def test_a_webhook_that_is_gone(stack, settings_here, project):
    client, number = stack.client, project["id"]
    for hook in client._sdk.webhooks.list(project=str(number)):
        client._sdk.webhooks.delete(hook.id)
    [(check, sentence)] = failures(settings_here)
    assert check == "projects"
    page = f"{settings_here.backend_url}/projects/{number}/options"
    assert sentence == (
        f"The project {TITLE!r} has no webhook, so nobody hears of its annotations; press Apply on "
        f"{page} to add it."
    )
    form = {"strategy": "entropy", "retrain_every": "3"}
    answer = httpx.post(page, data=form, headers=authorization_header(settings_here), timeout=60)
    assert answer.status_code == 303
    assert failures(settings_here) == []


def test_a_backend_connection_that_is_gone(stack, settings_here, project):
    client, number = stack.client, project["id"]
    options = client.loop_options(number)
    for backend in client._sdk.ml.list(project=number):
        client._sdk.ml.delete(backend.id)
    client.connect_webhook(number)
    [(check, sentence)] = failures(settings_here)
    assert check == "projects"
    assert "has a webhook but no ML backend" in sentence
    client.connect_backend(number, options)
    assert failures(settings_here) == []


def test_other_credentials_than_the_backend_has(settings_here):
    found = failures(replace(settings_here, basic_auth_pass="other"))
    assert {check for check, _ in found} == {"projects", "backend"}
    assert "lacks the backend's credentials" in found[0][1]
    assert "refuses the credentials; set BASIC_AUTH_USER" in found[-1][1]


@contextmanager
def stopped(pids):
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_a_backend_that_hangs(stack, settings_here, monkeypatch):
    monkeypatch.setattr(doctor, "TIMEOUT_S", 1)
    with stopped(stack.pids("gunicorn")):
        found = failures(settings_here)
    assert [check for check, _ in found] == ["backend", "backend"]
    assert "Label Studio does not reach the backend" in found[0][1]
    assert "No backend answers this machine" in found[1][1]


def test_a_backend_that_only_label_studio_reaches(settings_here):
    # As in a network of containers: the name means nothing on this machine.
    inside = replace(settings_here, backend_url=f"http://127.0.0.1:{free_port()}")
    [found] = doctor._backend(inside, reached=True)
    assert found.level is Level.WARNING


def test_a_backend_that_lets_everybody_in(settings_here):
    app = create_app(replace(settings_here, basic_auth_user="", basic_auth_pass=""))
    server = make_server("127.0.0.1", 0, app)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{server.server_port}"
        found = warnings(replace(settings_here, backend_url=url))
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        app.extensions["biosegment"].client.close()
    assert ("backend", f"The backend at {url} lets everybody in; start it with BASIC_AUTH_USER and "
            "BASIC_AUTH_PASS.") in found  # fmt: skip


def test_tiles_that_this_machine_does_not_see(settings_here, tmp_path):
    found = failures(replace(settings_here, data_root=tmp_path / "nowhere"))
    assert [check for check, _ in found] == ["tiles", "disk"]
    assert "set BIOSEGMENT_DATA to the data folder of the installation" in found[0][1]


def test_tiles_that_label_studio_does_not_see(settings_here, stack, tmp_path):
    for folder in (stack.data_root / "tiles").iterdir():
        (tmp_path / "tiles" / folder.name).mkdir(parents=True)
    [(check, sentence)] = failures(replace(settings_here, data_root=tmp_path))
    assert check == "tiles"
    assert "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT" in sentence
    assert not list(tmp_path.rglob("doctor-*"))


def test_tiles_under_another_root(settings_here, tmp_path):
    [(check, sentence)] = failures(replace(settings_here, label_studio_tiles=tmp_path))
    assert check == "tiles"
    assert "set BIOSEGMENT_LABEL_STUDIO_TILES" in sentence


def test_no_redis(settings_here, redis_process):
    redis_process.stop()
    [(check, sentence)] = failures(replace(settings_here, redis_url=redis_process.url))
    assert check == "Redis"
    assert "does not answer" in sentence
    redis_process.start()


@pytest.fixture
def redis_with_password(tmp_path, wait_until):
    """The port of a Redis that asks for the password ``right``."""
    port = free_port()
    options = f"--port {port} --bind 127.0.0.1 --requirepass right --dir {tmp_path} --save"
    command = [redis_server(), *options.split(), ""]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def listens():
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_until(listens, 30, "redis-server listens")
    yield port
    process.kill()
    process.wait()


@pytest.mark.parametrize("password", [":wrong@", ""])
def test_a_password_that_redis_does_not_take(settings_here, redis_with_password, password):
    url = "redis://{}127.0.0.1:{}/0"
    given = url.format(password, redis_with_password)
    [(check, sentence)] = failures(replace(settings_here, redis_url=given))
    assert check == "Redis"
    assert "refuses the password; set REDIS_URL" in sentence
    assert "wrong" not in sentence
    right = url.format(":right@", redis_with_password)
    assert [check for check, _ in failures(replace(settings_here, redis_url=right))] == ["workers"]


def test_no_worker(settings_here, redis_process):
    [(check, sentence)] = failures(replace(settings_here, redis_url=redis_process.url))
    assert check == "workers"
    assert sentence.startswith("No worker takes jobs from Redis")


def test_a_worker_that_is_silent(settings_here, redis_process):
    here = replace(settings_here, redis_url=redis_process.url)
    worker = LoopWorker(here)
    worker.register_birth()
    assert failures(here) == []
    long_ago = utcformat(datetime.now(UTC) - timedelta(seconds=100))
    with connect(here) as connection:
        connection.hset(worker.key, "last_heartbeat", long_ago)
    assert "was not heard of for 10" in dict(warnings(here))["workers"]
    assert [check for check, _ in failures(here)] == ["workers"]


def test_a_worker_of_another_version(settings_here, redis_process):
    here = replace(settings_here, redis_url=redis_process.url)
    worker = LoopWorker(here)
    worker.register_birth()
    with connect(here) as connection:
        connection.hset(worker.key, mapping={"biosegment": "0.0.1", "device": "NVIDIA H100"})
    found = list(examine(here))
    assert "Some run BioSegment 0.0.1" in " ".join(each.sentence for each in found)
    assert "1 of 1 workers compute on a GPU (1 on NVIDIA H100)." in [e.sentence for e in found]


def test_a_full_disk(settings_here, monkeypatch):
    monkeypatch.setattr(doctor, "LITTLE_BYTES", 2**60)
    assert "make room soon" in dict(warnings(settings_here))["disk"]
    monkeypatch.setattr(doctor, "TOO_LITTLE_BYTES", 2**60)
    assert "make room, or no model" in dict(failures(settings_here))["disk"]


def test_clocks_that_differ():
    date = format_datetime(datetime.now(UTC) - timedelta(minutes=5))
    [found] = checks._clock(date)
    assert found.level is Level.WARNING
    assert " 30" in found.sentence
    assert "s apart" in found.sentence
    assert list(checks._clock("")) == []


def test_a_label_studio_of_another_version():
    found = checks._version("http://label.example", "1.99.0")
    assert found.level is Level.WARNING
    assert "tested with 1.23.x" in found.sentence
