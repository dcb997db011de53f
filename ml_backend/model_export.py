"""A trained version as a file for other programs: a package, TorchScript or ONNX."""

import io
import logging
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from biosegment.disk import explain_full_disk
from biosegment.errors import MissingExtraError, SettingsError
from ml_backend.live_quality import live_qualities
from ml_backend.model.unet import ProbabilityUNet, UNet
from ml_backend.model_package import CARD, PackageCard
from ml_backend.model_registry import ModelRegistry

INPUT: Final = "image"
OUTPUT: Final = "probabilities"
EXTRA: Final = "models"
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


def probabilities_of(network: UNet) -> ProbabilityUNet:
    """Return a network that computes the class probabilities of another one."""
    found = ProbabilityUNet(network.spec)
    found.load_state_dict(network.state_dict())
    return found.eval()


def torchscript(network: UNet, about: PackageCard) -> bytes:
    """Return a TorchScript archive; its extra file ``biosegment.json`` is the package's card."""
    model = probabilities_of(network)
    file = io.BytesIO()
    with _quiet(), torch.inference_mode():
        # Scripting would need annotations that this form of the network has no use for. Nothing in
        # it depends on the shape of its input, so a trace holds for all of them.
        traced = torch.jit.trace(model, _example(network))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, file, {CARD: about.to_json()})
    return file.getvalue()


def onnx(network: UNet, about: PackageCard) -> tuple[bytes, int]:
    """Return an ONNX model whose batch, y and x are free, and the version of its operators.

    Its metadata has the package's card under ``biosegment.json``.

    Raises
    ------
    MissingExtraError
        When the libraries that write ONNX are not installed.
    """
    sizes = {0: "batch", 2: "y", 3: "x"}
    with _quiet():
        try:
            program = torch.onnx.export(
                probabilities_of(network),
                (_example(network),),
                dynamo=True,
                verbose=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=(sizes,),
            )
        except ModuleNotFoundError as exc:
            raise MissingExtraError("The format onnx", EXTRA) from exc
        assert program is not None  # It is None only where a file was asked for.
        program.model.metadata_props[CARD] = about.to_json().decode()
        content: bytes = program.model_proto.SerializeToString()
    return content, int(program.model.opset_imports[""])


def _example(network: UNet) -> torch.Tensor:
    # No two sides alike, and none of them 1, which an exporter would take for fixed.
    return torch.zeros(2, 1, 4 * network.stride, 6 * network.stride)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's remarks on its own exporters out of the logs."""
    remarks = logging.getLogger("torch.onnx")
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        remarks.setLevel(level)


def _write_package(network: UNet, about: PackageCard, plan: ModelPlan, path: Path) -> None:
    try:
        from ml_backend.model_zoo import write_package
    except ModuleNotFoundError as exc:
        raise MissingExtraError("The format bioimageio", EXTRA) from exc
    write_package(network, about, plan, path)


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
