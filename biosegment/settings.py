"""What an installation is told from outside: read once from the environment, then passed along."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

from biosegment.errors import SettingsError


@dataclass(frozen=True, slots=True)
class LoopOptions:
    """How the loop runs in a project; Label Studio keeps it as the backend's extra parameters."""

    strategy: str = "entropy"
    """Name of the active-learning strategy that orders the queue."""
    retrain_every: int = 10
    """A training starts when this many annotations are new."""

    def __post_init__(self) -> None:
        if self.retrain_every < 1:
            raise SettingsError("retrain_every", "must be 1 or more")

    def updated(self, values: Mapping[str, Any]) -> "LoopOptions":
        """Return these options with those of `values` that are not None; unknown keys are left.

        Raises
        ------
        SettingsError
            When ``retrain_every`` is not a positive whole number.
        """
        strategy = values.get("strategy")
        retrain_every = values.get("retrain_every")
        return LoopOptions(
            strategy=self.strategy if strategy is None else str(strategy),
            retrain_every=self.retrain_every
            if retrain_every is None
            else _integer("retrain_every", str(retrain_every)),
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
    """Address of Label Studio (``LABEL_STUDIO_URL``)."""
    label_studio_api_key: str = field(default="", repr=False)
    """Access token or legacy token (``LABEL_STUDIO_API_KEY``)."""
    backend_url: str = "http://localhost:9090"
    """Address of the ML backend as Label Studio reaches it (``BIOSEGMENT_BACKEND_URL``)."""
    basic_auth_user: str = ""
    """User that may call the backend (``BASIC_AUTH_USER``); empty: everyone."""
    basic_auth_pass: str = field(default="", repr=False)
    """Password of that user (``BASIC_AUTH_PASS``)."""
    redis_url: str = field(default="redis://localhost:6379/0", repr=False)
    """Address of Redis, with its password (``REDIS_URL``)."""
    loop: LoopOptions = LoopOptions()
    """Defaults of new projects (``BIOSEGMENT_STRATEGY``, ``BIOSEGMENT_RETRAIN_EVERY``)."""
    log_level: str = "INFO"
    """Least severe message that is logged (``BIOSEGMENT_LOG_LEVEL``)."""

    def __post_init__(self) -> None:
        if bool(self.basic_auth_user) != bool(self.basic_auth_pass):
            raise SettingsError("BASIC_AUTH_USER", "and BASIC_AUTH_PASS must be given together")
        for name, url in (
            ("LABEL_STUDIO_URL", self.label_studio_url),
            ("BIOSEGMENT_BACKEND_URL", self.backend_url),
        ):
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise SettingsError(name, f"must be an http or https address, got {url!r}")

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the settings; a variable that is not set, or empty, keeps its default.

        Raises
        ------
        SettingsError
            When a variable cannot be used; the message names it.
        """
        default = cls()

        def text(name: str, fallback: str) -> str:
            return environ.get(name) or fallback

        data_root = Path(text("BIOSEGMENT_DATA", str(default.data_root))).absolute()
        return cls(
            data_root=data_root,
            label_studio_tiles=Path(
                text("BIOSEGMENT_LABEL_STUDIO_TILES", str(data_root / "tiles"))
            ),
            label_studio_url=text("LABEL_STUDIO_URL", default.label_studio_url).rstrip("/"),
            label_studio_api_key=text("LABEL_STUDIO_API_KEY", ""),
            backend_url=text("BIOSEGMENT_BACKEND_URL", default.backend_url).rstrip("/"),
            basic_auth_user=text("BASIC_AUTH_USER", ""),
            basic_auth_pass=text("BASIC_AUTH_PASS", ""),
            redis_url=text("REDIS_URL", default.redis_url),
            loop=LoopOptions(
                strategy=text("BIOSEGMENT_STRATEGY", default.loop.strategy),
                retrain_every=_integer(
                    "BIOSEGMENT_RETRAIN_EVERY",
                    text("BIOSEGMENT_RETRAIN_EVERY", str(default.loop.retrain_every)),
                ),
            ),
            log_level=text("BIOSEGMENT_LOG_LEVEL", default.log_level).upper(),
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that give another process these settings."""
        return {
            "BIOSEGMENT_DATA": str(self.data_root),
            "BIOSEGMENT_LABEL_STUDIO_TILES": str(self.label_studio_tiles),
            "LABEL_STUDIO_URL": self.label_studio_url,
            "LABEL_STUDIO_API_KEY": self.label_studio_api_key,
            "BIOSEGMENT_BACKEND_URL": self.backend_url,
            "BASIC_AUTH_USER": self.basic_auth_user,
            "BASIC_AUTH_PASS": self.basic_auth_pass,
            "REDIS_URL": self.redis_url,
            "BIOSEGMENT_STRATEGY": self.loop.strategy,
            "BIOSEGMENT_RETRAIN_EVERY": str(self.loop.retrain_every),
            "BIOSEGMENT_LOG_LEVEL": self.log_level,
        }


def _integer(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise SettingsError(name, f"must be a whole number, got {text!r}") from None
