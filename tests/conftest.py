"""Fixtures that several folders of tests share: real services, started once for each session."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import psutil
import pytest
from redis import Redis
from redis.exceptions import RedisError

from biosegment.labels import LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import annotation_regions, tile_of
from biosegment.settings import Settings
from biosegment.supervisor import redis_server as redis_server_program
from importers.samples import vnc_sample, write_synthetic

for suite in ("exporters.testing", "importers.testing", "ml_backend.strategies.testing"):
    pytest.register_assert_rewrite(suite)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisProcess:
    """A redis-server of its own on a Unix socket, which a test may stop and start."""

    def __init__(self, folder):
        self.folder = folder
        self.url = f"unix://{folder / 'redis.sock'}"
        self._process = None

    def start(self):
        options = f"--port 0 --unixsocket {self.folder / 'redis.sock'} --dir {self.folder}"
        self._process = subprocess.Popen(
            [redis_server_program(), *options.split(), "--save", ""], stdout=subprocess.DEVNULL
        )
        with Redis.from_url(self.url) as connection:
            wait_until(lambda: _pings(connection), 10, "redis-server answers")

    def stop(self):
        self._process.kill()
        self._process.wait()

    @property
    def pid(self):
        return self._process.pid


def _pings(connection):
    try:
        return connection.ping()
    except RedisError:
        return False


def wait_until(condition, timeout_s, what):
    """Return the condition's value once it is true."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain until {what}"
        time.sleep(0.05)
    return value


@pytest.fixture(autouse=True)
def _signal_handlers():
    """Give back the handlers of a test that ran a worker in this process."""
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.fixture(scope="session", name="wait_until")
def wait_until_fixture():
    return wait_until


@pytest.fixture
def redis_process(tmp_path_factory):
    process = RedisProcess(tmp_path_factory.mktemp("redis"))
    process.start()
    yield process
    process.stop()


@pytest.fixture
def settings(tmp_path, redis_process):
    """Settings of an installation whose Label Studio does not answer."""
    return Settings(
        data_root=tmp_path / "data",
        label_studio_tiles=tmp_path / "data" / "tiles",
        label_studio_url=f"http://127.0.0.1:{free_port()}",
        label_studio_api_key="0123456789abcdef0123456789abcdef01234567",
        redis_url=redis_process.url,
    )


class LocalStack:
    """What ``biosegment up`` started: its settings, the client, and its processes."""

    def __init__(self, data_root, port, backend_port):
        self.data_root = data_root
        self.port = port
        self.backend_port = backend_port
        self.process = None
        self.output = data_root.parent / "up.log"

    def start(self):
        command = [sys.executable, "-c", "from biosegment.cli import main; main()", "up"]
        ports = ["--port", str(self.port), "--backend-port", str(self.backend_port)]
        with self.output.open("a") as output:
            output.truncate(0)
            self.process = subprocess.Popen(
                [*command, *ports],
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # As in a terminal: a shell lets its background jobs ignore Ctrl-C.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        wait_until(self._is_up, 300, f"the stack is up ({self.output.read_text()})")

    def _is_up(self):
        assert self.process.poll() is None, self.output.read_text()
        return "Ctrl-C stops everything" in self.output.read_text()

    def stop(self):
        """Press Ctrl-C and return the exit code."""
        self.client.close()
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(30)
        finally:
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)

    @property
    def environment(self):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LABEL_STUDIO")}
        return inherited | {
            "BIOSEGMENT_DATA": str(self.data_root),
            "BIOSEGMENT_RETRAIN_EVERY": "3",
            "BIOSEGMENT_TRAINING_EFFORT": "0.4",
        }

    @property
    def settings(self):
        lines = (self.data_root / "stack" / "connection.env").read_text().splitlines()
        return Settings.from_env(dict(line.split("=", 1) for line in lines))

    @cached_property
    def client(self):
        return LabelStudioClient(self.settings)

    @property
    def login(self):
        """User and password of Label Studio, as ``up`` prints them."""
        text = self.output.read_text()
        return (
            re.search(r"log in with +(\S+@\S+)", text).group(1),
            re.search(r"password +(\S+)", text).group(1),
        )

    def pids(self, part_of_command):
        """Return the processes of this stack whose command line holds a text, oldest first."""
        pidfile = self.data_root / "stack" / "supervisord.pid"
        if not pidfile.exists():
            return []
        found = []
        for process in psutil.Process(int(pidfile.read_text())).children(recursive=True):
            with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                if part_of_command in " ".join(process.cmdline()):
                    found.append((process.create_time(), process.pid))
        return [pid for _, pid in sorted(found)]

    def annotate(self, project, truth, count):
        """Let ground truth be the expert for the next tasks of a project; return their numbers."""
        labelled = []
        for _ in range(count):
            task = self.client.next_task(project["id"])
            self.client.annotate(task["id"], self.true_regions(project, truth, task), 1.0)
            labelled.append(task["id"])
        return labelled

    @staticmethod
    def true_regions(project, truth, task):
        """Return what an expert who knows everything, (z, y, x), paints in a task."""
        label_map = LabelMap.from_config(project["label_config"])
        return annotation_regions([truth[tile_of(task).roi.slices][0]], label_map)

    def cli(self, *arguments, **environment):
        """Run a command of the command line; returns the finished process."""
        return subprocess.run(
            [sys.executable, "-c", "from biosegment.cli import main; main()", *arguments],
            env=self.environment | {"COLUMNS": "200"} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )


@pytest.fixture(scope="session")
def sample_stack(tmp_path_factory):
    """A stack with its mitochondria: a real one where there is one, else a made-up one."""
    data = os.environ.get("BIOSEGMENT_TEST_DATA")
    folder = tmp_path_factory.mktemp("sample")
    if data and (Path(data) / "vnc" / "raw.tif").exists():
        return vnc_sample(folder, Path(data) / "vnc")
    return write_synthetic(folder, (6, 512, 640))


@pytest.fixture(scope="session")
def new_stack():
    """Return a function that gives a stack, not started, on free ports and a folder."""
    return lambda folder: LocalStack(folder / "data", free_port(), free_port())


@pytest.fixture(scope="session")
def stack(tmp_path_factory, new_stack):
    """The whole stack on free ports and an empty data folder."""
    folder = tmp_path_factory.mktemp("stack")
    local = new_stack(folder)
    local.start()
    yield local
    local.stop()
    shutil.rmtree(folder, ignore_errors=True)
