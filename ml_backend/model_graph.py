"""A network as other programs run it: TorchScript and ONNX, whose output is class probabilities."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

from biosegment.errors import MissingExtraError
from ml_backend.model.unet import ProbabilityUNet, UNet
from ml_backend.model_package import CARD, PackageCard

INPUT: Final = "image"
OUTPUT: Final = "probabilities"
EXTRA: Final = "models"
"""The optional dependencies that the formats of models need."""


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
