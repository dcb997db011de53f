"""A model package of the BioImage Model Zoo.

The description is made, checked and packed by ``bioimageio.spec``, which needs no network for it.
https://bioimage-io.github.io/spec-bioimage-io/
"""

import gc
import io
import re
import warnings
from collections.abc import Sequence
from datetime import datetime
from keyword import iskeyword
from pathlib import Path
from typing import Final

import numpy as np
import torch
from bioimageio.spec import save_bioimageio_package
from bioimageio.spec.generic.v0_3 import LicenseId
from bioimageio.spec.model import v0_5
from loguru import logger as remarks
from numpy.typing import NDArray
from pydantic import ValidationError

from biosegment.errors import SettingsError
from ml_backend.model import unet
from ml_backend.model.unet import UNet
from ml_backend.model_graph import INPUT, OUTPUT, onnx, probabilities_of, torchscript
from ml_backend.model_package import CARD, WEIGHTS, PackageCard, packed
from ml_backend.model_zoo_page import model_name, page, smallest_px, summary

STATE_DICT: Final = "weights.pt"
SCRIPT: Final = "weights.torchscript.pt"
ONNX: Final = "weights.onnx"
SOURCE: Final = "unet.py"
PAGE: Final = "README.md"
TAGS: Final = ("electron-microscopy", "semantic-segmentation", "2d", "unet", "pytorch")
CITED: Final = {
    "text": "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image "
    "Segmentation (2015)",
    "doi": "10.1007/978-3-319-24574-4_28",
}
"""By its DOI: whether an address exists would be tried out on the network."""


def write_package(
    network: UNet, about: PackageCard, authors: Sequence[str], licence: str, path: Path
) -> None:
    """Write a package; what it consists of is left beside it.

    It holds the weights as a state dict with the network's source, as TorchScript, as ONNX, and as
    what `read_package` reads. Its test output is computed in 32-bit floats.

    Raises
    ------
    SettingsError
        When an author's name or the licence cannot be used.
    MissingExtraError
        When the libraries that write ONNX are not installed.
    """
    signed = [_author(name) for name in authors], _licence(licence)
    folder = path.parent
    model, opset = onnx(network, about)
    image = example_image(network)
    with torch.inference_mode():
        probs = probabilities_of(network)(torch.from_numpy(image)).numpy()
    contents = packed(network, about) | {
        STATE_DICT: _state_dict(network),
        SCRIPT: torchscript(network, about),
        ONNX: model,
        SOURCE: Path(unet.__file__).read_bytes(),
        PAGE: page(network, about).encode(),
        f"{INPUT}.npy": _npy(image),
        f"{OUTPUT}.npy": _npy(probs),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    # It would tell on the terminal what it checks, and leaves files open until they are collected.
    remarks.disable("bioimageio")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        description = _description(network, about, *signed, folder, opset)
        save_bioimageio_package(description, output_path=path)
        del description
        gc.collect()


def example_image(network: UNet) -> NDArray[np.float32]:
    """Return an image of blots and noise to test a package with: float32 (1, 1, H, W), in [0, 1].

    Two sides that differ would tell if axes were swapped.
    """
    random = np.random.default_rng(0)
    stride = network.stride
    height, width = (smallest_px(network) + more * stride for more in (1, 2))
    blots = np.kron(random.random((-(-height // 8), -(-width // 8))), np.ones((8, 8)))
    noise = random.normal(0, 0.1, (height, width))
    image = np.clip(blots[:height, :width] + noise, 0, 1).astype(np.float32)
    return image[np.newaxis, np.newaxis]


def _description(
    network: UNet,
    about: PackageCard,
    authors: list[v0_5.Author],
    licence: LicenseId,
    folder: Path,
    opset: int,
) -> v0_5.ModelDescr:
    version = torch.__version__.partition("+")[0]
    return v0_5.ModelDescr(
        name=model_name(about.class_names),
        description=summary(about),
        authors=authors,
        cite=[v0_5.CiteEntry.model_validate(CITED)],
        license=licence,
        tags=list(TAGS),
        version=v0_5.Version(about.version.partition("-")[0].lstrip("0")),
        timestamp=v0_5.Datetime(datetime.fromisoformat(about.created)),
        documentation=v0_5.FileDescr(source=folder / PAGE),
        attachments=[v0_5.FileDescr(source=folder / name) for name in (CARD, WEIGHTS)],
        inputs=[_input(network, folder)],
        outputs=[_output(network, about, folder)],
        weights=v0_5.WeightsDescr(
            pytorch_state_dict=v0_5.PytorchStateDictWeightsDescr(
                source=folder / STATE_DICT,
                architecture=v0_5.ArchitectureFromFileDescr(
                    source=folder / SOURCE,
                    callable=v0_5.Identifier(unet.probability_unet.__name__),
                    kwargs=dict(about.architecture_spec),
                ),
                pytorch_version=v0_5.Version(version),
            ),
            torchscript=v0_5.TorchscriptWeightsDescr(
                source=folder / SCRIPT,
                pytorch_version=v0_5.Version(version),
                parent="pytorch_state_dict",
            ),
            onnx=v0_5.OnnxWeightsDescr(
                source=folder / ONNX, opset_version=opset, parent="pytorch_state_dict"
            ),
        ),
    )


def _author(name: str) -> v0_5.Author:
    try:
        return v0_5.Author(name=name)
    except ValidationError as exc:
        raise SettingsError("--author", f"is a name without a slash, not {name}") from exc


def _licence(name: str) -> LicenseId:
    try:
        return LicenseId(name)
    except ValidationError as exc:
        reason = f"is an SPDX identifier such as CC-BY-4.0, not {name}"
        raise SettingsError("--license", reason) from exc


def _input(network: UNet, folder: Path) -> v0_5.InputTensorDescr:
    size = v0_5.ParameterizedSize(min=smallest_px(network), step=network.stride)
    return v0_5.InputTensorDescr(
        id=v0_5.TensorId(INPUT),
        description="Grey values of one slice, from black (0) to white (1) of its volume.",
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=["grey"]),
            v0_5.SpaceInputAxis(id=v0_5.AxisId("y"), size=size),
            v0_5.SpaceInputAxis(id=v0_5.AxisId("x"), size=size),
        ],
        data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
        test_tensor=v0_5.FileDescr(source=folder / f"{INPUT}.npy"),
    )


def _output(network: UNet, about: PackageCard, folder: Path) -> v0_5.OutputTensorDescr:
    def axis(name: str) -> v0_5.SpaceOutputAxisWithHalo:
        same = v0_5.SizeReference(tensor_id=v0_5.TensorId(INPUT), axis_id=v0_5.AxisId(name))
        return v0_5.SpaceOutputAxisWithHalo(id=v0_5.AxisId(name), size=same, halo=network.reach_px)

    return v0_5.OutputTensorDescr(
        id=v0_5.TensorId(OUTPUT),
        description="Probability of each class; they sum to 1.",
        axes=[
            v0_5.BatchAxis(),
            v0_5.ChannelAxis(channel_names=channel_names(about.class_names)),
            axis("y"),
            axis("x"),
        ],
        data=v0_5.IntervalOrRatioDataDescr(type="float32", range=(0.0, 1.0)),
        test_tensor=v0_5.FileDescr(source=folder / f"{OUTPUT}.npy"),
    )


def channel_names(class_names: Sequence[str]) -> list[str]:
    """Return names that are identifiers, as releases of the specification before 0.5.4 want them.

    Two classes never share one.
    """
    found: list[str] = []
    for index, name in enumerate(class_names):
        plain = re.sub(r"\W", "_", name)
        if not plain.isidentifier() or iskeyword(plain):
            plain = f"_{plain}"
        found.append(f"{plain}_{index}" if plain in found else plain)
    return found


def _state_dict(network: UNet) -> bytes:
    file = io.BytesIO()
    torch.save({name: value.cpu() for name, value in network.state_dict().items()}, file)
    return file.getvalue()


def _npy(array: NDArray[np.float32]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()
