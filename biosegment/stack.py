"""The whole stack on one machine: where it listens, its secrets, and how others find it.

What it needs to remember lies in the folder ``stack`` of the data root. `biosegment.supervisor`
runs it.
"""

import hashlib
import os
import secrets
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from biosegment.errors import PortInUseError
from biosegment.settings import Settings
from biosegment.tiles import TILES

CONNECTION: Final = "connection.env"
"""File in the stack's folder that tells other commands where it is."""
REDIS_SOCKET: Final = "redis.sock"
USER: Final = "expert@biosegment.local"
"""The expert's login in Label Studio."""


@dataclass(frozen=True, slots=True)
class Stack:
    """Where the processes listen, and the settings that connect them."""

    settings: Settings
    """Addresses and secrets of this stack."""
    password: str = field(repr=False)
    """Password of `USER` in Label Studio."""
    label_studio_port: int
    backend_port: int
    sockets: Path
    """Folder of Unix sockets: their paths must be short, a data root's is not."""
    tensorboard_port: int | None = None
    """Where TensorBoard listens; None: it does not run."""

    @property
    def folder(self) -> Path:
        """State, secrets and logs of the processes."""
        return self.settings.data_root / "stack"

    @property
    def has_own_redis(self) -> bool:
        """Whether Redis is one of the processes."""
        return self.settings.redis_url == own_redis_url(self.sockets)


def prepare(
    settings: Settings,
    label_studio_port: int,
    backend_port: int,
    tensorboard_port: int | None = None,
) -> Stack:
    """Return a stack on `settings.data_root`, with secrets made at the first time.

    Parameters
    ----------
    settings
        Its ``redis_url`` is used when ``REDIS_URL`` or its file is given; else a Redis of our own
        is started.
    label_studio_port, backend_port, tensorboard_port
        TCP ports on the loopback interface; TensorBoard runs only if it is given one.

    Raises
    ------
    PortInUseError
        When something listens there.
    """
    wanted = {
        "--port": label_studio_port,
        "--backend-port": backend_port,
        "--tensorboard": tensorboard_port,
    }
    taken: set[int] = set()
    for option, port in wanted.items():
        if port is not None:
            if port in taken or not _is_free(port):
                raise PortInUseError(port, option)
            taken.add(port)
    folder = settings.data_root / "stack"
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    (settings.data_root / TILES).mkdir(exist_ok=True)
    known = _secrets(folder / "secrets.env")
    sockets = _sockets(settings.data_root)
    return Stack(
        settings=replace(
            settings,
            label_studio_url=f"http://localhost:{label_studio_port}",
            label_studio_api_key=known["LABEL_STUDIO_API_KEY"],
            label_studio_tiles=settings.data_root / TILES,
            backend_url=f"http://localhost:{backend_port}",
            basic_auth_user="biosegment",
            basic_auth_pass=known["BASIC_AUTH_PASS"],
            redis_url=settings.redis_url if _names_redis(os.environ) else own_redis_url(sockets),
        ),
        password=known["LABEL_STUDIO_PASSWORD"],
        label_studio_port=label_studio_port,
        backend_port=backend_port,
        sockets=sockets,
        tensorboard_port=tensorboard_port,
    )


def own_redis_url(sockets: Path) -> str:
    """Return the address of a stack's own Redis, which asks for no password.

    Its user is empty, so that no password that stands in the environment is put into it.
    """
    return f"unix://@{sockets / REDIS_SOCKET}"


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


def _names_redis(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in ("REDIS_URL", "REDIS_URL_FILE"))


def _sockets(data_root: Path) -> Path:
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
