"""What the doctor looks at in Label Studio, from outside and with the loop's own token."""

import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path, PurePath
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from biosegment.errors import AuthenticationError, LabelStudioError
from biosegment.findings import Finding, failure, ok, warning
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.connection import authorization_header
from biosegment.labelstudio.payloads import Json
from biosegment.settings import Settings
from biosegment.tiles import TILES

VERSIONS: Final = ("1.23.",)
"""Beginnings of the versions of Label Studio that BioSegment is tested with."""
MAX_CLOCK_DIFFERENCE_S: Final = 60
TIMEOUT_S: Final = 10
RESERVED: Final = "reserved network address"
"""Part of what Label Studio says when it refuses a private address."""


def check_label_studio(settings: Settings) -> Iterator[Finding]:
    """Yield what is found in the Label Studio of an installation.

    Nothing is changed there. Without an answer, or with a token that is refused, the rest cannot be
    looked at.
    """
    try:
        answer = httpx.get(f"{settings.label_studio_url}/api/version", timeout=TIMEOUT_S)
        version = str(answer.json()["release"])
    except (httpx.HTTPError, ValueError, LookupError, TypeError):
        yield failure(
            "Label Studio",
            f"No Label Studio answers at {settings.label_studio_url}; start it, or set "
            "LABEL_STUDIO_URL to its address.",
        )
        return
    yield _version(settings.label_studio_url, version)
    yield from _clock(answer.headers.get("Date", ""))
    with Inspection(settings) as inspection:
        try:
            inspection.check()
        except LabelStudioError as exc:
            yield failure("token", _refused(settings.label_studio_api_key, exc))
            return
        yield ok("token", f"A {_kind(settings.label_studio_api_key)} is accepted.")
        try:
            yield from inspection.findings()
        except LabelStudioError as exc:
            yield failure("Label Studio", str(exc))


def _version(url: str, version: str) -> Finding:
    if version.startswith(VERSIONS):
        return ok("Label Studio", f"Label Studio {version} answers at {url}.")
    tested = " or ".join(f"{each}x" for each in VERSIONS)
    return warning(
        "Label Studio",
        f"Label Studio {version} answers at {url}; BioSegment is tested with {tested}.",
    )


def _clock(date: str) -> Iterator[Finding]:
    try:
        seconds = abs((datetime.now(UTC) - parsedate_to_datetime(date)).total_seconds())
    except (ValueError, TypeError):
        return
    if seconds <= MAX_CLOCK_DIFFERENCE_S:
        yield ok("clock", "The clocks of Label Studio and of this machine agree.")
    else:
        yield warning(
            "clock",
            f"The clocks of Label Studio and of this machine are {seconds:.0f} s apart; let both "
            "follow a time server, for access tokens and the age of model versions depend on it.",
        )


def _kind(token: str) -> str:
    return "personal access token" if token.count(".") == 2 else "legacy token"


def _refused(token: str, error: LabelStudioError) -> str:
    if not token:
        return "There is no token; set LABEL_STUDIO_API_KEY to one of Label Studio's tokens."
    if not isinstance(error, AuthenticationError):
        return str(error)
    if _kind(token) == "legacy token":
        return (
            "The token is refused as a legacy token; set LABEL_STUDIO_API_KEY to a personal access "
            "token, or allow legacy tokens in Label Studio, under Organization."
        )
    return (
        "The personal access token is refused; it was revoked or belongs to another Label Studio: "
        "set LABEL_STUDIO_API_KEY to a new one."
    )


class Inspection(LabelStudioClient):
    """Looks at how the projects are connected to the backend; changes nothing."""

    def findings(self) -> Iterator[Finding]:
        """Yield what is found."""
        yield self._private_addresses()
        with ThreadPoolExecutor(8) as pool:
            projects = self.projects()
            connected = list(pool.map(self._is_connected, projects))
        with self._errors():
            hooks = [hook for hook in self._sdk.webhooks.list() if hook.url == self._webhook_url]
        ours = []
        for project, has_backend in zip(projects, connected, strict=True):
            heard = [hook for hook in hooks if hook.project == project["id"]]
            if has_backend or heard:
                ours.append(project)
                yield from self._project(project, heard, has_backend=has_backend)
        if not ours:
            yield warning(
                "projects",
                f"No project is connected to the backend at {self._settings.backend_url}; "
                "`biosegment import` makes one.",
            )
            return
        yield ok("projects", f"{len(ours)} of {len(projects)} projects use this backend.")
        yield from self._reached([p for p, has in zip(projects, connected, strict=True) if has])
        yield self._tiles(ours)

    def _private_addresses(self) -> Finding:
        """Return whether Label Studio may call the backend where that is.

        It is asked for a webhook that it refuses in any case: for its address, or for its action.
        """
        url = self._webhook_url
        body = {"url": url, "send_for_all_actions": False, "actions": ["NONE"]}
        try:
            self._request("POST", "api/webhooks/", json=body)
        except LabelStudioError as exc:
            reason = str(exc)
        else:
            reason = ""
        if RESERVED in reason:
            return failure(
                "private addresses",
                f"Label Studio may not call {url}, a private address; set "
                "USE_DEFAULT_BANNED_SUBNETS=false and "
                "USER_ADDITIONAL_BANNED_SUBNETS=169.254.0.0/16 for Label Studio, and restart it.",
            )
        if "resolve" in reason:
            return failure(
                "private addresses",
                f"Label Studio does not know the machine {urlsplit(url).hostname!r}; set "
                "BIOSEGMENT_BACKEND_URL to the backend's address as Label Studio reaches it.",
            )
        return ok("private addresses", f"Label Studio may call {url}.")

    def _is_connected(self, project: Json) -> bool:
        # Its options, which somebody may have mistyped, do not matter here.
        params = {"extended": True, "include_live_models": True, "limit": 1}
        path = f"api/projects/{project['id']}/model-versions/"
        answer = self._json("GET", path, params=params)
        return any(self._is_ours(backend["url"]) for backend in answer["live"])

    def _project(self, project: Json, hooks: list[Any], *, has_backend: bool) -> Iterator[Finding]:
        title, number = project["title"], project["id"]
        again = f"press Apply on {self._settings.backend_url}/projects/{number}/options to add it"
        if not has_backend:
            yield failure(
                "projects",
                f"The project {title!r} has a webhook but no ML backend, so it shows no "
                "predictions; run its `biosegment import` again.",
            )
        elif not hooks:
            yield failure(
                "projects",
                f"The project {title!r} has no webhook, so nobody hears of its annotations; "
                f"{again}.",
            )
        wanted = authorization_header(self._settings)
        if any((hook.headers or {}) != wanted or not hook.is_active for hook in hooks):
            yield failure(
                "projects",
                f"The webhook of the project {title!r} is off or lacks the backend's credentials; "
                "a worker mends it within a minute.",
            )

    def _reached(self, projects: list[Json]) -> Iterator[Finding]:
        """Yield whether Label Studio reaches the backend: it tries when asked for its state."""
        if not projects:
            return
        with self._errors():
            backends = self._sdk.ml.list(project=projects[0]["id"])
        for backend in backends:
            if not self._is_ours(backend.url):
                continue
            if backend.state == "CO":
                yield ok("backend", f"Label Studio reaches the backend at {backend.url}.")
            else:
                reason = backend.error_message or "it does not answer"
                yield failure(
                    "backend",
                    f"Label Studio does not reach the backend at {backend.url} "
                    f"({' '.join(str(reason).split())[:200]}); start it, and let no firewall stand "
                    "between them.",
                )

    def _tiles(self, projects: list[Json]) -> Finding:
        """Return whether Label Studio serves what is written into the data folder."""
        root = PurePath(self._settings.label_studio_tiles)
        for project in projects:
            with self._errors():
                storages = self._sdk.import_storage.local.list(project=project["id"])
            for storage in storages:
                path = PurePath(str(storage.path))
                if not path.is_relative_to(root):
                    return failure(
                        "tiles",
                        f"The project {project['title']!r} has its tiles in {path}, not in {root}; "
                        "set BIOSEGMENT_LABEL_STUDIO_TILES to where Label Studio sees the "
                        "folder tiles.",
                    )
                return self._probe(path.relative_to(root))
        return warning("tiles", "No project has tiles in the data folder, so none was looked at.")

    def _probe(self, folder: PurePath) -> Finding:
        here = Path(self._settings.data_root) / TILES / folder
        if self._settings.model_storage and not here.is_dir():
            return ok("tiles", "Tiles are not in the data folder, but read through Label Studio.")
        name, content = f"doctor-{secrets.token_hex(8)}.txt", secrets.token_bytes(32)
        try:
            (here / name).write_bytes(content)
        except OSError as exc:
            return failure(
                "tiles",
                f"No tile can be written to {here} ({exc.strerror}); set BIOSEGMENT_DATA to the "
                "data folder of the installation, and let this user write there.",
            )
        try:
            served = self.download(f"/data/local-files/?d={quote(str(folder / name))}")
        except LabelStudioError as exc:
            return failure(
                "tiles",
                f"Label Studio does not serve what is written to {here} ({exc}); let its "
                "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT be that same folder tiles, with "
                "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true.",
            )
        finally:
            (here / name).unlink(missing_ok=True)
        if served != content:
            return failure("tiles", f"Label Studio serves something else than is in {here}.")
        return ok("tiles", f"Label Studio serves the tiles of {Path(here).parent}.")
