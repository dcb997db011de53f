"""An installation whose secrets can be recognised, and the volumes and networks of the backend."""

import os
import signal
import subprocess
import sys

import httpx
import pytest
from redis import Redis
from redis.exceptions import RedisError

from biosegment.settings import Settings
from biosegment.supervisor import redis_server
from tests.conftest import free_port, wait_until
from tests.ml_backend.conftest import (  # noqa: F401 (fixtures)
    annotate,
    app,
    finder,
    http,
    label_map,
    make_app,
    make_task,
    record,
    registry,
    serve,
    serve_rounds,
    site,
    volume,
)

USER = "secret-user"
SECRETS = {
    "LABEL_STUDIO_API_KEY": "5ec2e7aa11bb22cc33dd44ee55ff66aa77bb88cc",
    "BASIC_AUTH_PASS": "s3cret-of-the-backend",
    "REDIS_PASSWORD": "s3cret-of-the-queue",
}


class Installation:
    """A Redis with a password, gunicorn as the stack starts it, and a worker; no Label Studio."""

    def __init__(self, folder):
        self.folder = folder
        self.port, self._redis_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.auth = (USER, SECRETS["BASIC_AUTH_PASS"])
        self._processes = {}
        self.environment = {
            "BIOSEGMENT_DATA": str(folder / "data"),
            "LABEL_STUDIO_URL": f"http://127.0.0.1:{free_port()}",
            "LABEL_STUDIO_API_KEY": SECRETS["LABEL_STUDIO_API_KEY"],
            "BASIC_AUTH_USER": USER,
            "BASIC_AUTH_PASS": SECRETS["BASIC_AUTH_PASS"],
            "REDIS_URL": f"redis://:{SECRETS['REDIS_PASSWORD']}@127.0.0.1:{self._redis_port}/0",
        }

    @property
    def settings(self):
        return Settings.from_env(self.environment)

    def connect(self):
        return Redis.from_url(self.environment["REDIS_URL"])

    def start(self):
        (self.folder / "redis.conf").write_text(
            f"bind 127.0.0.1\nport {self._redis_port}\ndir {self.folder}\nsave ''\n"
            f"requirepass {SECRETS['REDIS_PASSWORD']}\n"
        )
        self._run("redis", redis_server(), str(self.folder / "redis.conf"))
        gunicorn = "-m gunicorn --config python:ml_backend.http_server ml_backend.wsgi:app --bind"
        self._run("backend", sys.executable, *gunicorn.split(), f"127.0.0.1:{self.port}")
        wait_until(self._answers, 120, "Redis and the backend answer")
        self._run("worker", sys.executable, "-m", "ml_backend.worker")

    def _answers(self):
        try:
            with self.connect() as connection:
                return connection.ping() and httpx.get(f"{self.url}/health").is_success
        except (RedisError, httpx.HTTPError):
            return False

    def _run(self, name, *command):
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("BIOSEGMENT")}
        with (self.folder / f"{name}.log").open("w") as log:
            self._processes[name] = subprocess.Popen(
                command,
                env=inherited | self.environment | {"BIOSEGMENT_LOG_LEVEL": "DEBUG"},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log(self, name):
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def is_alive(self, name):
        return self._processes[name].poll() is None

    def pids(self):
        return [process.pid for process in self._processes.values()]

    def stop(self):
        for process in self._processes.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="session")
def installation(tmp_path_factory):
    installation = Installation(tmp_path_factory.mktemp("installation"))
    try:
        installation.start()
        yield installation
    finally:
        installation.stop()
