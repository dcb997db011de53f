"""Trained versions on disk: ``models/PROJECT_ID/VERSION/`` under the data root.

A version is one folder, complete or absent, never changed afterwards: safetensors weights and a
JSON card. Beside the versions, the file ``current`` names the one that serves, and ``ranking`` a
version and the strategy of the queue that it serves, where that is not the card's. With a storage
(`shared_models`), what is promoted here is told to it, and what it knows is found here.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, Self

import safetensors.torch
import torch
from safetensors import SafetensorError

from biosegment.disk import explain_full_disk
from biosegment.errors import ModelDamagedError, ModelNotFoundError
from biosegment.labels import MAX_CLASSES
from biosegment.settings import Settings
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import UNET, ModelCard
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
    number,
    order,
)
from ml_backend.model_storage import ModelStorage
from ml_backend.recipe import Recipe, are_widths
from ml_backend.shared_models import SharedModels

__all__ = ["ModelCard", "ModelRegistry"]

logger = logging.getLogger(__name__)

PARTIAL: Final = ".partial-"
"""Begins the name of a folder that is being written, or was when its process was killed."""


class ModelRegistry:
    """The versions of every project; each call looks at the disk afresh.

    One process at a time saves versions of a project; any number may read.

    Parameters
    ----------
    data_root : Path
        Versions lie in its folder ``models``, which is made when first needed.
    storage : ModelStorage, optional
        Through which they are shared with other data roots. What is read is as old as
        `shared_models.REFRESH_S` then; while the storage does not answer, what is here goes on
        serving.
    """

    def __init__(self, data_root: Path, storage: ModelStorage | None = None) -> None:
        self._root = data_root / "models"
        self._shared = SharedModels(self._root, storage) if storage else None

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return the registry of an installation."""
        url = settings.model_storage
        return cls(settings.data_root, ModelStorage(url) if url else None)

    def projects(self) -> list[int]:
        """Return the numbers of the projects that have versions, in order."""
        here = {int(path.name) for path in self._root.glob("*") if path.name.isdecimal()}
        return sorted(here.union(self._shared.projects() if self._shared else ()))

    def exchange(self, project_id: int) -> None:
        """Exchange versions with the storage now, if there is one.

        Raises
        ------
        ModelStorageError
            When it cannot be used.
        """
        if self._shared:
            self._shared.exchange(project_id)

    def next_version(self, project_id: int) -> str:
        """Return a version name that sorts after all of the project: ``0007-20261122T101530``."""
        names = self._versions(project_id)
        following = number(names[-1]) + 1 if names else 1
        return f"{following:04}-{datetime.now(UTC):%Y%m%dT%H%M%S}"

    def save(self, project_id: int, version: str, network: UNet, card: ModelCard) -> None:
        """Add a version: the whole of it, or nothing when this fails or is killed.

        Parameters
        ----------
        project_id : int
        version : str
            From `next_version`.
        network : UNet
        card : ModelCard
            Its version, time of creation and checksum are filled in.

        Raises
        ------
        DiskFullError
            When the disk takes no more. Earlier versions are untouched.
        FileExistsError
            When there is such a version.
        """
        target = self._folder(project_id, version)
        if target.exists():
            raise FileExistsError(f"Project {project_id} has a version {version} already.")
        state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
        weights = safetensors.torch.save(state)
        card = replace(
            card,
            version=version,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            weights_sha256=hashlib.sha256(weights).hexdigest(),
        )
        partial = target.with_name(PARTIAL + version)
        with explain_full_disk(target.parent):
            target.parent.mkdir(parents=True, exist_ok=True)
            for leftover in target.parent.glob(PARTIAL + "*"):
                shutil.rmtree(leftover)
            try:
                partial.mkdir()
                _write(partial / WEIGHTS, weights)
                _write(partial / CARD, json.dumps(asdict(card), indent=2).encode())
                _sync(partial)
                partial.rename(target)
                _sync(target.parent)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise

    def promote(self, project_id: int, version: str) -> None:
        """Let a version serve from now on.

        Raises
        ------
        ModelNotFoundError
            When there is no such version.
        ModelStorageError
            When the storage cannot be told. The version serves here, and there as soon as it can.
        """
        path = self._existing(project_id, version).with_name(CURRENT)
        with self._told(project_id):
            _replace(path, version.encode())

    def current(self, project_id: int) -> str | None:
        """Return the version that serves; None before any was promoted.

        When the promoted one is gone, the newest that there is serves.
        """
        path = self._project(project_id) / CURRENT
        self._refresh(project_id)
        try:
            promoted = path.read_text().strip()
        except FileNotFoundError:
            return None
        versions = self._versions(project_id)
        if promoted in versions:
            return promoted
        logger.warning("project %d: promoted version %r is missing", project_id, promoted)
        return versions[-1] if versions else None

    def ranked_by(self, project_id: int, version: str) -> str:
        """Return the query strategy of the queue that a version serves.

        Raises
        ------
        ModelNotFoundError, ModelDamagedError
            As `card`.
        """
        path = self._project(project_id) / RANKING
        self._refresh(project_id)
        with suppress(FileNotFoundError):
            noted, strategy = path.read_text().split()
            if noted == version:
                return strategy
        return self.card(project_id, version).strategy

    def set_ranked_by(self, project_id: int, version: str, strategy: str) -> None:
        """Note the query strategy of the queue that a version serves from now on.

        Raises
        ------
        ModelNotFoundError
            When there is no such version.
        ModelStorageError
            When the storage cannot be told.
        """
        path = self._existing(project_id, version).with_name(RANKING)
        with self._told(project_id):
            _replace(path, f"{version} {strategy}".encode())

    def card(self, project_id: int, version: str) -> ModelCard:
        """Return the card of a version.

        Raises
        ------
        ModelNotFoundError
            When there is no such version.
        ModelDamagedError
            When its card cannot be read.
        """
        path = self._existing(project_id, version) / CARD
        found = path.stat()
        return _card(path, (found.st_ino, found.st_mtime_ns, found.st_size))

    def cards(self, project_id: int) -> list[ModelCard]:
        """Return the cards of all versions of a project, oldest first; unreadable ones left out."""
        cards = []
        for version in self._versions(project_id):
            try:
                cards.append(self.card(project_id, version))
            except ModelDamagedError as exc:
                logger.warning("project %d: %s", project_id, exc)
        return cards

    def load(self, project_id: int, version: str) -> tuple[UNet, ModelCard]:
        """Return the network of a version, on the CPU and in evaluation mode, and its card.

        Raises
        ------
        ModelNotFoundError
            When there is no such version.
        ModelDamagedError
            When the weights are not those that were saved, or the card cannot be read.
        ModelStorageError
            When they are only in the storage, and cannot be fetched.
        """
        card = self.card(project_id, version)
        path = self._folder(project_id, version) / WEIGHTS
        if self._shared:
            self._shared.fetch_weights(project_id, version)
        try:
            weights = _content(path, MAX_WEIGHTS_BYTES)
        except ValueError as exc:
            raise ModelDamagedError(path, str(exc)) from exc
        card.check_weights(path, weights)
        if card.architecture != UNET:
            raise ModelDamagedError(path, f"it holds a network {card.architecture!r}")
        try:
            # Nothing is allocated for what a card says but the file does not hold.
            with torch.device("meta"):
                network = UNet(_spec(card))
            network.load_state_dict(safetensors.torch.load(weights), assign=True)
        except (SafetensorError, TypeError, ValueError, RuntimeError) as exc:
            raise ModelDamagedError(path, str(exc)) from exc
        return network.eval(), card

    def recipe_path(self, project_id: int) -> Path:
        """Return where a project's own training recipe lies, if it has one."""
        return self._project(project_id) / RECIPE

    def recipe(self, project_id: int) -> Recipe | None:
        """Return a project's own training recipe; None where it is the default.

        Raises
        ------
        RecipeError
            When it cannot be used.
        """
        path = self.recipe_path(project_id)
        self._refresh(project_id)
        return Recipe.read(path)

    def set_recipe(self, project_id: int, recipe: Recipe | None) -> None:
        """Train a project by this recipe from now on, by the default if it is None.

        Raises
        ------
        DiskFullError
            When the disk takes no more.
        ModelStorageError
            When the storage cannot be told; then nothing changes.
        """
        path = self.recipe_path(project_id)
        if self._shared:
            self._shared.set_recipe(project_id, recipe.to_json() if recipe else b"")
        elif recipe:
            recipe.write(path)
        else:
            path.unlink(missing_ok=True)

    def _refresh(self, project_id: int) -> None:
        if self._shared:
            self._shared.refresh(project_id)

    @contextmanager
    def _told(self, project_id: int) -> Iterator[None]:
        """Let the storage know what the block changes, if there is one."""
        if self._shared is None:
            yield
            return
        with self._shared.changing(project_id):
            yield

    def _project(self, project_id: int) -> Path:
        # Not a name from a request: that could lead out of the folder.
        if type(project_id) is not int or project_id < 0:
            raise ValueError(f"A project is a number, not {project_id!r}.")
        return self._root / str(project_id)

    def _folder(self, project_id: int, version: str) -> Path:
        project = self._project(project_id)
        if not VERSION.fullmatch(version):
            raise ModelNotFoundError(project_id, version)
        return project / version

    def _existing(self, project_id: int, version: str) -> Path:
        folder = self._folder(project_id, version)
        if not self._is_known(folder):
            self._refresh(project_id)
        if not self._is_known(folder):
            raise ModelNotFoundError(project_id, version)
        return folder

    def _versions(self, project_id: int) -> list[str]:
        folder = self._project(project_id)
        self._refresh(project_id)
        named = (path for path in folder.glob("*") if VERSION.fullmatch(path.name))
        return sorted((path.name for path in named if self._is_known(path)), key=order)

    def _is_known(self, folder: Path) -> bool:
        # The storage has the weights of a version whose card it gave.
        return is_complete(folder) or (self._shared is not None and (folder / CARD).is_file())


@lru_cache(maxsize=2048)
def _card(path: Path, _found: tuple[int, int, int]) -> ModelCard:
    """Return a card, read once: pages that are asked for all the time look at all of them.

    It is read again when something else is found in its place.
    """
    try:
        return ModelCard.from_json(_content(path, MAX_CARD_BYTES))
    except (ValueError, RecursionError) as exc:
        raise ModelDamagedError(path, str(exc)) from exc


def _content(path: Path, limit: int) -> bytes:
    size = path.stat().st_size
    if size > limit:
        raise ValueError(f"it has {size} bytes, and {limit} are the most there can be")
    return path.read_bytes()


def _spec(card: ModelCard) -> UNetSpec:
    spec = UNetSpec(**card.architecture_spec)
    if not (type(spec.classes) is int and 2 <= spec.classes <= MAX_CLASSES):
        raise ValueError(f"its network has {spec.classes!r} classes")
    if not are_widths(spec.widths):
        raise ValueError(f"its network has the widths {spec.widths!r}")
    return spec


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_suffix(".partial")
    with explain_full_disk(path.parent):
        _write(partial, content)
        partial.replace(path)
        _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
