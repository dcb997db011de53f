"""What an installation is told from outside: read once from the environment, then passed along."""

import logging
import math
import os
from collections.abc import Container, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self, TypeVar
from urllib.parse import quote, urlsplit

from biosegment.errors import SettingsError
from biosegment.log import FORMATS

Number = TypeVar("Number", int, float)

SECRETS: Final = ("LABEL_STUDIO_API_KEY", "BASIC_AUTH_PASS", "REDIS_URL", "REDIS_PASSWORD")
"""Variables that may be given as a file: ``NAME_FILE`` is the path of one that holds the value.

The variable itself goes first, so that a process can hand on `Settings.environment` beside its own.
"""


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How the loop runs in a project; Label Studio keeps it as the backend's extra parameters."""

    strategy: str = "spaced_entropy"
    """Name of the active-learning strategy that orders the queue."""
    retrain_every: int = 10
    """A training starts when this many annotations are new."""
    training_effort: float = 1.0
    """Optimisation steps of a training, as a multiple of what two CPU cores do in half a minute."""

    def __post_init__(self) -> None:
        if self.retrain_every < 1:
            raise SettingsError("retrain_every", "must be 1 or more")
        if not 0 < self.training_effort < math.inf:
            raise SettingsError("training_effort", "must be above 0")

    def updated(self, values: Mapping[str, Any]) -> "LoopOptions":
        """Return these options with those of `values` that are not None; unknown keys are left.

        Raises
        ------
        SettingsError
            When a number is not one, or out of range.
        """
        merged = asdict(self) | {k: v for k, v in values.items() if v is not None}
        return LoopOptions(
            strategy=str(merged["strategy"]),
            retrain_every=_number("retrain_every", merged["retrain_every"], int),
            training_effort=_number("training_effort", merged["training_effort"], float),
        )


@dataclass(frozen=True, slots=True)
class Settings:
    """Addresses, secrets and defaults of one installation."""

    data_root: Path = Path("data")
    """Folder of volumes, tiles, models and segmentations (``BIOSEGMENT_DATA``)."""
    label_studio_tiles: Path = Path("data/tiles")
    """Its folder ``tiles`` as Label Studio sees it: the root of the local files that it serves
    (``BIOSEGMENT_LABEL_STUDIO_TILES``)."""
    label_studio_url: str = "http://localhost:8080"
    """Address of Label Studio, for BioSegment (``LABEL_STUDIO_URL``)."""
    label_studio_public_url: str = ""
    """Address of Label Studio for people, where they reach it at another one
    (``LABEL_STUDIO_PUBLIC_URL``)."""
    label_studio_api_key: str = field(default="", repr=False)
    """Access token or legacy token (``LABEL_STUDIO_API_KEY``)."""
    backend_url: str = "http://localhost:9090"
    """Address of the ML backend as Label Studio reaches it (``BIOSEGMENT_BACKEND_URL``)."""
    basic_auth_user: str = ""
    """User that may call the backend (``BASIC_AUTH_USER``); empty: everyone."""
    basic_auth_pass: str = field(default="", repr=False)
    """Password of that user (``BASIC_AUTH_PASS``)."""
    redis_url: str = field(default="redis://localhost:6379/0", repr=False)
    """Address of Redis, with its password (``REDIS_URL``, or there without and ``REDIS_PASSWORD``
    beside it)."""
    loop: LoopOptions = LoopOptions()
    """Defaults of new projects (``BIOSEGMENT_STRATEGY``, ``BIOSEGMENT_RETRAIN_EVERY``,
    ``BIOSEGMENT_TRAINING_EFFORT``)."""
    model_storage: str = ""
    """Where models are shared with machines that do not see the data root: a ``file`` or ``s3``
    address (``BIOSEGMENT_MODEL_STORAGE``); empty: through the data root."""
    log_level: str = "INFO"
    """Least severe message that is logged (``BIOSEGMENT_LOG_LEVEL``)."""
    log_format: str = "text"
    """How a line of the logs looks: ``text`` or ``json`` (``BIOSEGMENT_LOG_FORMAT``)."""

    def __post_init__(self) -> None:
        if bool(self.basic_auth_user) != bool(self.basic_auth_pass):
            raise SettingsError("BASIC_AUTH_USER", "and BASIC_AUTH_PASS must be given together")
        # What a header cannot carry would otherwise be quoted in the error that the client raises.
        if not (self.label_studio_api_key.isascii() and self.label_studio_api_key.isprintable()):
            raise SettingsError("LABEL_STUDIO_API_KEY", "must be a token in plain characters")
        for name, url in (
            ("LABEL_STUDIO_URL", self.label_studio_url),
            ("LABEL_STUDIO_PUBLIC_URL", self.label_studio_page),
            ("BIOSEGMENT_BACKEND_URL", self.backend_url),
        ):
            if not _is_address(url, {"http", "https"}) or not urlsplit(url).hostname:
                raise SettingsError(name, f"must be an http or https address, got {url!r}")
            if "@" in urlsplit(url).netloc:
                # It is shown on pages, in logs and in what other programs are told.
                raise SettingsError(name, "must be an address without a user or password")
        if not _is_address(self.redis_url, {"redis", "rediss", "unix"}):
            raise SettingsError("REDIS_URL", "must be a redis, rediss or unix address")
        if self.model_storage and not _is_storage(self.model_storage):
            reason = "must be an address such as file:///mnt/models or s3://bucket/models"
            raise SettingsError("BIOSEGMENT_MODEL_STORAGE", reason)
        if self.log_level not in logging.getLevelNamesMapping():
            reason = f"must be DEBUG, INFO, WARNING or ERROR, got {self.log_level!r}"
            raise SettingsError("BIOSEGMENT_LOG_LEVEL", reason)
        if self.log_format not in FORMATS:
            reason = f"must be {' or '.join(FORMATS)}, got {self.log_format!r}"
            raise SettingsError("BIOSEGMENT_LOG_FORMAT", reason)

    @property
    def label_studio_page(self) -> str:
        """Where people find Label Studio."""
        return self.label_studio_public_url or self.label_studio_url

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings; a variable that is not set, or empty, keeps its default.

        Raises
        ------
        SettingsError
            When a variable cannot be used; the message names it.
        """
        default = cls()
        secret = {name: _secret(environ, name) for name in SECRETS}

        def text(name: str, fallback: str) -> str:
            return environ.get(name, "").strip() or fallback

        data_root = Path(text("BIOSEGMENT_DATA", str(default.data_root))).absolute()
        return cls(
            data_root=data_root,
            label_studio_tiles=Path(
                text("BIOSEGMENT_LABEL_STUDIO_TILES", str(data_root / "tiles"))
            ),
            label_studio_url=text("LABEL_STUDIO_URL", default.label_studio_url).rstrip("/"),
            label_studio_public_url=text("LABEL_STUDIO_PUBLIC_URL", "").rstrip("/"),
            label_studio_api_key=secret["LABEL_STUDIO_API_KEY"],
            backend_url=text("BIOSEGMENT_BACKEND_URL", default.backend_url).rstrip("/"),
            basic_auth_user=text("BASIC_AUTH_USER", ""),
            basic_auth_pass=secret["BASIC_AUTH_PASS"],
            redis_url=_with_password(
                secret["REDIS_URL"] or default.redis_url, secret["REDIS_PASSWORD"]
            ),
            loop=default.loop.updated(
                {name: text(_loop_variable(name), "") or None for name in asdict(default.loop)}
            ),
            model_storage=text("BIOSEGMENT_MODEL_STORAGE", default.model_storage),
            log_level=text("BIOSEGMENT_LOG_LEVEL", default.log_level).upper(),
            log_format=text("BIOSEGMENT_LOG_FORMAT", default.log_format).lower(),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that give another process these settings."""
        return {
            "BIOSEGMENT_DATA": str(self.data_root),
            "BIOSEGMENT_LABEL_STUDIO_TILES": str(self.label_studio_tiles),
            "LABEL_STUDIO_URL": self.label_studio_url,
            "LABEL_STUDIO_PUBLIC_URL": self.label_studio_public_url,
            "LABEL_STUDIO_API_KEY": self.label_studio_api_key,
            "BIOSEGMENT_BACKEND_URL": self.backend_url,
            "BASIC_AUTH_USER": self.basic_auth_user,
            "BASIC_AUTH_PASS": self.basic_auth_pass,
            "REDIS_URL": self.redis_url,
            "BIOSEGMENT_MODEL_STORAGE": self.model_storage,
            "BIOSEGMENT_LOG_LEVEL": self.log_level,
            "BIOSEGMENT_LOG_FORMAT": self.log_format,
            **{_loop_variable(name): str(value) for name, value in asdict(self.loop).items()},
        }


def _secret(environ: Mapping[str, str], name: str) -> str:
    """Return a secret, or nothing; it stands in the variable, or in the file of ``NAME_FILE``."""
    value = environ.get(name, "").strip()
    path = environ.get(f"{name}_FILE", "").strip()
    if value or not path:
        return value
    try:
        value = Path(path).read_text().strip()
    except (OSError, UnicodeError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "it is not text"
        raise SettingsError(f"{name}_FILE", f"names {path}, not readable: {reason}") from exc
    if not value:
        raise SettingsError(f"{name}_FILE", f"names {path}, which is empty")
    return value


def _with_password(redis_url: str, password: str) -> str:
    """Return the address of Redis with the password in it, unless it has one."""
    scheme, separator, place = redis_url.partition("://")
    if not password or "@" in place:
        return redis_url
    return f"{scheme}{separator}:{quote(password, safe='')}@{place}"


def _is_address(url: str, schemes: Container[str]) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _is_storage(url: str) -> bool:
    """Tell whether models can be shared there; an address with a password is none: it is shown."""
    if not _is_address(url, {"file", "s3"}):
        return False
    parts = urlsplit(url)
    if parts.scheme == "file":
        return not parts.netloc and len(parts.path) > 1
    return bool(parts.netloc) and "@" not in url


def _loop_variable(name: str) -> str:
    return f"BIOSEGMENT_{name.upper()}"


def _number(name: str, value: object, kind: type[Number]) -> Number:
    try:
        return kind(str(value))
    except ValueError:
        what = "a whole number" if kind is int else "a number"
        raise SettingsError(name, f"must be {what}, got {value!r}") from None
