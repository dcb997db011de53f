"""A trained version as a file for other programs: a package, TorchScript or ONNX."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from biosegment.disk import explain_full_disk
from biosegment.errors import MissingExtraError, SettingsError
from ml_backend.live_quality import live_qualities
from ml_backend.model.unet import UNet
from ml_backend.model_graph import EXTRA, onnx, torchscript
from ml_backend.model_package import PackageCard
from ml_backend.model_registry import ModelRegistry

AUTHOR: Final = "BioSegment user"
LICENCE: Final = "CC-BY-4.0"


@dataclass(frozen=True, slots=True)
class ModelPlan:
    """Which version goes out, and how."""

    project_id: int
    version: str
    format: str
    """A key of `FORMATS`."""
    authors: Sequence[str] = (AUTHOR,)
    """Who is named in a package."""
    licence: str = LICENCE
    """SPDX identifier of a package's licence."""
    force: bool = False
    """Replace a file that is there."""


def export_model(plan: ModelPlan, folder: Path, registry: ModelRegistry) -> Path:
    """Write a version into a folder and return the file: the whole of it, or none.

    Every format computes class probabilities, float32 (B, C, H, W), of images (B, 1, H, W) in
    [0, 1], with H and W multiples of the network's stride, as `Predictor` does where it computes in
    32-bit floats.

    Raises
    ------
    ModelNotFoundError, ModelDamagedError
        When the version cannot be loaded.
    SettingsError
        When there is such a file, the folder cannot be made, or the author or licence is none.
    MissingExtraError
        When a library of the format is not installed.
    DiskFullError
        When the disk takes no more.
    """
    network, card = registry.load(plan.project_id, plan.version)
    qualities = {each.version: each for each in live_qualities(registry.cards(plan.project_id))}
    about = PackageCard.of(card, qualities.get(plan.version))
    suffix, write = FORMATS[plan.format]
    path = folder / f"project{plan.project_id}_{plan.version}{suffix}"
    if path.exists() and not plan.force:
        raise SettingsError("--out", f"has {path.name} already, which --force replaces")
    with _workplace(path) as work:
        written = work / path.name
        write(network, about, plan, written)
        written.replace(path)
    return path


@contextmanager
def _workplace(path: Path) -> Iterator[Path]:
    """Make a folder beside a file that is to be written; it is gone afterwards."""
    work = path.with_name(f".{path.name}.partial")
    with explain_full_disk(path.parent):
        shutil.rmtree(work, ignore_errors=True)
        try:
            work.mkdir(parents=True)
        except (FileExistsError, NotADirectoryError, PermissionError) as exc:
            reason = f"is {path.parent}, where no file can be made ({exc.strerror})"
            raise SettingsError("--out", reason) from exc
        try:
            yield work
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _write_package(network: UNet, about: PackageCard, plan: ModelPlan, path: Path) -> None:
    try:
        from ml_backend.model_zoo import write_package
    except ModuleNotFoundError as exc:
        raise MissingExtraError("The format bioimageio", EXTRA) from exc
    write_package(network, about, plan.authors, plan.licence, path)


def _write_torchscript(network: UNet, about: PackageCard, plan: ModelPlan, path: Path) -> None:
    path.write_bytes(torchscript(network, about))


def _write_onnx(network: UNet, about: PackageCard, plan: ModelPlan, path: Path) -> None:
    path.write_bytes(onnx(network, about)[0])


FORMATS: Final[Mapping[str, tuple[str, Callable[[UNet, PackageCard, ModelPlan, Path], Any]]]] = {
    "bioimageio": (".bioimageio.zip", _write_package),
    "torchscript": (".torchscript.pt", _write_torchscript),
    "onnx": (".onnx", _write_onnx),
}
"""What a version can be written as -> the end of its name, and what writes it."""
