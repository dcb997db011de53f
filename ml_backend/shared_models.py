"""Model versions of machines without a shared folder: exchanged through a storage.

The storage is laid out as the folder ``models`` of a data root. A version is copied to it card
last, and ``current`` after the versions; it is copied from it card first, and ``current`` once the
version that it names is here as a whole. Weights of other versions follow when they are loaded.

What changed here and was not told yet, as the storage did not answer, has a mark. It holds the
version that served before: unless another machine has let a newer one serve meanwhile, ours does.
"""

import fcntl
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from biosegment.disk import explain_full_disk, write_atomically
from biosegment.errors import ModelDamagedError
from ml_backend.model_card import ModelCard
from ml_backend.model_files import (
    CARD,
    CURRENT,
    MAX_CARD_BYTES,
    MAX_WEIGHTS_BYTES,
    RANKING,
    RECIPE,
    VERSION,
    WEIGHTS,
    is_complete,
    order,
)
from ml_backend.model_storage import ModelStorage

logger = logging.getLogger(__name__)

REFRESH_S: Final = 3.0
"""What is read is as old as this at most."""
RETRY_S: Final = 30.0
"""A storage that failed is left alone this long by those who only read."""
SMALL: Final = (CURRENT, RANKING, RECIPE)
"""Files that change, in the order in which they are taken."""
MAX_SMALL_BYTES: Final = 2**16
UNTOLD: Final = "untold"
"""The mark."""


class SharedModels:
    """The versions of one data root, and those of a storage.

    Parameters
    ----------
    root
        Folder of the versions here.
    storage
        Has those of all.
    """

    def __init__(self, root: Path, storage: ModelStorage) -> None:
        self._root = root
        self._storage = storage
        self._seen: dict[str, str] = {}
        self._due_s: dict[int, float] = {}
        self._projects: tuple[float, list[int]] = (0.0, [])
        self._down_until_s = 0.0

    def projects(self) -> list[int]:
        """Return the projects in the storage, as far as it answers."""
        until, found = self._projects
        if time.monotonic() >= max(until, self._down_until_s):
            with self._tolerant():
                found = [int(name) for name in self._storage.folders() if name.isdecimal()]
                self._projects = (time.monotonic() + REFRESH_S, found)
        return found

    def refresh(self, project_id: int) -> None:
        """Take what is new in the storage, unless it was looked at just now or does not answer."""
        if time.monotonic() < max(self._due_s.get(project_id, 0.0), self._down_until_s):
            return
        with self._tolerant(), self._locked(project_id, wait=False) as alone:
            if alone:
                self._exchange(project_id)

    def exchange(self, project_id: int) -> None:
        """Tell the storage what it does not know, and take what is new there.

        Raises
        ------
        ModelStorageError
            When it cannot be used. What it does not know follows with the next exchange.
        """
        with self._locked(project_id):
            self._exchange(project_id)

    @contextmanager
    def changing(self, project_id: int) -> Iterator[None]:
        """Tell the storage what the block changes here; raises as `exchange` does."""
        folder = self._root / str(project_id)
        with self._locked(project_id):
            self._mark(folder)
            yield
            self._exchange(project_id)

    def set_recipe(self, project_id: int, recipe: bytes) -> None:
        """Set a project's recipe, nothing for the default; raises as `exchange` does."""
        with self._locked(project_id):
            self._exchange(project_id)
            self._storage.write(f"{project_id}/{RECIPE}", recipe)
            self._exchange(project_id)

    def fetch_weights(self, project_id: int, version: str) -> None:
        """Make sure that the weights of a version whose card is here are here too.

        Raises
        ------
        ModelStorageError
            When they cannot be fetched.
        ModelDamagedError
            When they are not those of the card.
        """
        folder = self._root / str(project_id) / version
        if (folder / WEIGHTS).exists():
            return
        name = f"{project_id}/{version}/{WEIGHTS}"
        weights = self._storage.read(name, MAX_WEIGHTS_BYTES)
        card = ModelCard.from_json((folder / CARD).read_bytes())
        card.check_weights(f"{self._storage.url}/{name}", weights)
        self._write(folder / WEIGHTS, weights)

    def _exchange(self, project_id: int) -> None:
        folder = self._root / str(project_id)
        there = self._storage.files(str(project_id))
        here = sorted((path.name for path in folder.glob("*") if _is_version(path)), key=order)
        # A storage that knows nothing of a project is new: it is told everything.
        if here and not there:
            self._mark(folder)
        if (folder / UNTOLD).exists():
            self._tell(project_id, here, there)
            (folder / UNTOLD).unlink(missing_ok=True)
            there = self._storage.files(str(project_id))
        self._take(project_id, there)
        self._due_s[project_id] = time.monotonic() + REFRESH_S

    def _mark(self, folder: Path) -> None:
        if not (folder / UNTOLD).exists():
            self._write(folder / UNTOLD, _content(folder / CURRENT))

    def _tell(self, project_id: int, here: list[str], there: Mapping[str, str]) -> None:
        folder = self._root / str(project_id)
        if not there:
            self._tell_small(project_id, RECIPE)
        for version in here:
            if f"{version}/{CARD}" not in there:
                for name in (WEIGHTS, CARD):
                    content = (folder / version / name).read_bytes()
                    self._storage.write(f"{project_id}/{version}/{name}", content)
        ours, before = (_content(folder / name).decode() for name in (CURRENT, UNTOLD))
        theirs = self._small(project_id, CURRENT) if CURRENT in there else b""
        if ours in here and _goes_first(ours, theirs.decode(errors="replace"), before):
            self._tell_small(project_id, RANKING)
            self._tell_small(project_id, CURRENT)

    def _tell_small(self, project_id: int, name: str) -> None:
        if content := _content(self._root / str(project_id) / name):
            self._storage.write(f"{project_id}/{name}", content)

    def _take(self, project_id: int, there: Mapping[str, str]) -> None:
        folder = self._root / str(project_id)
        for path in sorted(there):
            version, _, name = path.partition("/")
            if name == CARD and VERSION.fullmatch(version) and not (folder / path).exists():
                self._take_once(project_id, path, there)
        for name in SMALL:
            if name in there:
                self._take_once(project_id, name, there)

    def _take_once(self, project_id: int, name: str, there: Mapping[str, str]) -> None:
        """Take a file, unless it is as it was when it was taken, or found damaged."""
        key = f"{project_id}/{name}"
        if self._seen.get(key) == there[name]:
            return
        try:
            is_settled = self._take_file(project_id, name)
        except ValueError as exc:
            logger.warning("project %d: %s", project_id, exc)
            is_settled = True
        if is_settled:
            self._seen[key] = there[name]

    def _take_file(self, project_id: int, name: str) -> bool:
        """Take a file, and tell whether it needs no other look before it changes."""
        folder = self._root / str(project_id)
        if name not in SMALL:
            self._write(folder / name, self._card(f"{project_id}/{name}"))
            # It may be deleted here, to be taken again.
            return False
        content = self._small(project_id, name)
        if name == CURRENT:
            version = content.decode(errors="replace")
            if not VERSION.fullmatch(version) or not (folder / version / CARD).exists():
                return False
            self.fetch_weights(project_id, version)
        if name == RECIPE and not content:
            (folder / name).unlink(missing_ok=True)
        elif content != _content(folder / name):
            self._write(folder / name, content)
        return True

    def _card(self, name: str) -> bytes:
        content = self._storage.read(name, MAX_CARD_BYTES)
        try:
            ModelCard.from_json(content)
        except (ValueError, RecursionError) as exc:
            raise ModelDamagedError(f"{self._storage.url}/{name}", str(exc)) from exc
        return content

    def _small(self, project_id: int, name: str) -> bytes:
        return self._storage.read(f"{project_id}/{name}", MAX_SMALL_BYTES).strip()

    def _write(self, path: Path, content: bytes) -> None:
        with explain_full_disk(self._root):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, content)

    @contextmanager
    def _tolerant(self) -> Iterator[None]:
        """Log that the storage does not answer, or nothing can be written, and leave it alone."""
        try:
            yield
        except OSError as exc:
            logger.warning("models are used as they are here: %s", exc)
            self._down_until_s = time.monotonic() + RETRY_S

    @contextmanager
    def _locked(self, project_id: int, *, wait: bool = True) -> Iterator[bool]:
        """Keep the other processes and threads of this data root off a project meanwhile.

        One that read the storage before another told it of a new version would go back to the one
        before. Yields False if somebody else is at it, and `wait` is not wanted.
        """
        self._root.mkdir(parents=True, exist_ok=True)
        with (self._root / f".{project_id}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


def _goes_first(ours: str, theirs: str, before: str) -> bool:
    """Tell whether ours is to serve, as nobody has let a newer one serve since `before` did."""
    if theirs in (before, ours) or not VERSION.fullmatch(theirs):
        return True
    return order(ours) > order(theirs)


def _is_version(path: Path) -> bool:
    return VERSION.fullmatch(path.name) is not None and is_complete(path)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except FileNotFoundError:
        return b""
