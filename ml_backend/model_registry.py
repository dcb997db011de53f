"""Trained versions on disk: ``models/PROJECT_ID/VERSION/`` under the data root.

A version is one folder, complete or absent, never changed afterwards: safetensors weights and a
JSON card. Beside the versions, the file ``current`` names the one that serves, and ``ranking`` a
version and the strategy of the queue that it serves, where that is not the card's.
"""

import hashlib
import json
import logging
import os
import re
import shutil
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import safetensors.torch
from safetensors import SafetensorError

from biosegment.disk import explain_full_disk
from biosegment.errors import ModelDamagedError, ModelNotFoundError
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import UNET, ModelCard

__all__ = ["ModelCard", "ModelRegistry"]

logger = logging.getLogger(__name__)

VERSION: Final = re.compile(r"(\d{4,})-\d{8}T\d{6}")
WEIGHTS: Final = "weights.safetensors"
CARD: Final = "card.json"
RECIPE: Final = "recipe.json"
PARTIAL: Final = ".partial-"
"""Begins the name of a folder that is being written, or was when its process was killed."""


class ModelRegistry:
    """The versions of every project; each call reads the disk afresh.

    One process at a time saves versions of a project; any number may read.

    Parameters
    ----------
    data_root : Path
        Versions lie in its folder ``models``, which is made when first needed.
    """

    def __init__(self, data_root: Path) -> None:
        self._root = data_root / "models"

    def projects(self) -> list[int]:
        """Return the numbers of the projects that have versions, in order."""
        return sorted(int(path.name) for path in self._root.glob("*") if path.name.isdecimal())

    def next_version(self, project_id: int) -> str:
        """Return a version name that sorts after all of the project: ``0007-20261122T101530``."""
        names = self._versions(project_id)
        number = _number(names[-1]) + 1 if names else 1
        return f"{number:04}-{datetime.now(UTC):%Y%m%dT%H%M%S}"

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
        """
        _replace(self._existing(project_id, version).with_name("current"), version.encode())

    def current(self, project_id: int) -> str | None:
        """Return the version that serves; None before any was promoted.

        When the promoted one is gone, the newest that there is serves.
        """
        try:
            promoted = (self._project(project_id) / "current").read_text().strip()
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
        with suppress(FileNotFoundError):
            noted, strategy = (self._project(project_id) / "ranking").read_text().split()
            if noted == version:
                return strategy
        return self.card(project_id, version).strategy

    def set_ranked_by(self, project_id: int, version: str, strategy: str) -> None:
        """Note the query strategy of the queue that a version serves from now on.

        Raises
        ------
        ModelNotFoundError
            When there is no such version.
        """
        folder = self._existing(project_id, version).parent
        _replace(folder / "ranking", f"{version} {strategy}".encode())

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
        try:
            return ModelCard.from_json(path.read_bytes())
        except ValueError as exc:
            raise ModelDamagedError(path, str(exc)) from exc

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
        """
        card = self.card(project_id, version)
        path = self._folder(project_id, version) / WEIGHTS
        weights = path.read_bytes()
        if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
            raise ModelDamagedError(path, "its checksum is not the one on the card")
        if card.architecture != UNET:
            raise ModelDamagedError(path, f"it holds a network {card.architecture!r}")
        try:
            network = UNet(UNetSpec(**card.architecture_spec))
            network.load_state_dict(safetensors.torch.load(weights))
        except (SafetensorError, TypeError, RuntimeError) as exc:
            raise ModelDamagedError(path, str(exc)) from exc
        return network.eval(), card

    def recipe_path(self, project_id: int) -> Path:
        """Return where a project's own training recipe lies, if it has one."""
        return self._project(project_id) / RECIPE

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
        if not _is_complete(folder):
            raise ModelNotFoundError(project_id, version)
        return folder

    def _versions(self, project_id: int) -> list[str]:
        folders = self._project(project_id).glob("*")
        names = [path.name for path in folders if VERSION.fullmatch(path.name)]
        complete = (name for name in names if _is_complete(self._folder(project_id, name)))
        return sorted(complete, key=lambda name: (_number(name), name))


def _number(version: str) -> int:
    return int(version.partition("-")[0])


def _is_complete(folder: Path) -> bool:
    return (folder / WEIGHTS).is_file() and (folder / CARD).is_file()


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
