"""What BioSegment puts into a model package for itself, and reads back: weights and what they mean.

A package is a zip file of the BioImage Model Zoo. Two of its members are all that is read: a JSON
document and safetensors weights. Neither can carry code, and the network is built by this program.
"""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self

import safetensors.torch
import torch
from safetensors import SafetensorError

from biosegment.errors import ModelPackageError
from biosegment.labels import BACKGROUND, MAX_CLASSES
from ml_backend.live_quality import LiveQuality
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import UNET, ModelCard
from ml_backend.recipe import are_widths

CARD: Final = "biosegment.json"
WEIGHTS: Final = "weights.safetensors"
FORMAT: Final = 1
MAX_CARD_BYTES: Final = 2**20
MAX_WEIGHTS_BYTES: Final = 2**30
OTHER_NETWORK: Final = (
    "it holds no network of BioSegment, and only BioSegment's own U-Net can be trained on; "
    "`biosegment export PROJECT --format bioimageio` writes such packages"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PackageCard:
    """What a model package tells of its network; nothing in it leads to single annotations."""

    class_names: Sequence[str]
    """Names of the classes that the network tells apart, background first."""
    architecture: str
    """Name of the kind of network."""
    architecture_spec: Mapping[str, Any]
    """What builds the network: fields of `UNetSpec`."""
    normalisation: str
    """What the network expects its input to be."""
    labels: int
    """Number of annotated tiles that it was trained on."""
    iou: Mapping[str, float | None] = field(default_factory=dict)
    """Live IoU of each foreground class, see `LiveQuality`; empty if it was not measured."""
    iou_tiles: int = 0
    """Number of tiles that it was measured on."""
    training: Mapping[str, Any]
    """The recipe: fields of `TrainingSpec`."""
    software: Mapping[str, str]
    """Package -> version."""
    version: str
    """Name of the version where it was trained."""
    created: str
    """When it was trained: ISO 8601, UTC."""
    weights_sha256: str
    """Checksum of the safetensors file."""
    format: int = FORMAT
    """Version of this document."""

    @classmethod
    def of(cls, card: ModelCard, quality: LiveQuality | None) -> Self:
        """Return what a package of a version tells.

        Of one that was imported, and not trained on since, what its own package told.
        """
        if card.imported is not None:
            found = cls.from_json(json.dumps(card.imported).encode())
        else:
            found = cls(
                class_names=list(card.class_names),
                architecture=card.architecture,
                architecture_spec=dict(card.architecture_spec),
                normalisation=card.normalisation,
                labels=card.labels,
                training=dict(card.training),
                software=dict(card.software),
                version=card.version,
                created=card.created,
                weights_sha256=card.weights_sha256,
            )
        if quality is None:
            return found
        return replace(found, iou=dict(quality.iou), iou_tiles=quality.tiles)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a card; fields of later releases are left out.

        Raises
        ------
        ValueError
            When it does not describe a network that this release can build.
        """
        content = json.loads(text)
        known = {each.name for each in fields(cls)}
        try:
            card = cls(**{name: value for name, value in content.items() if name in known})
            card._check()
        except (AttributeError, KeyError, TypeError) as exc:
            raise ValueError(f"it does not describe a network ({exc})") from exc
        return card

    def to_json(self) -> bytes:
        """Return the document."""
        return json.dumps(asdict(self), indent=2).encode()

    def _check(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"its format is {self.format!r}, and this release reads {FORMAT}")
        if self.architecture != UNET:
            raise ValueError(OTHER_NETWORK)
        names = list(self.class_names)
        if not (
            isinstance(self.class_names, list)
            and all(isinstance(name, str) and name for name in names)
            and 2 <= len(set(names)) == len(names) <= MAX_CLASSES
            and names[0] == BACKGROUND
        ):
            raise ValueError("its class names are not a list that begins with background")
        spec = UNetSpec(**self.architecture_spec)
        if not (
            spec.classes == len(names)
            and are_widths(spec.widths)
            and isinstance(spec.dropout, int | float)
            and 0 <= spec.dropout < 1
        ):
            raise ValueError(f"no network is built by {dict(self.architecture_spec)}")
        if not (isinstance(self.training, dict) and isinstance(self.labels, int)):
            raise ValueError("it does not tell how the network was trained")


def packed(network: UNet, card: PackageCard) -> dict[str, bytes]:
    """Return the members that `read_package` reads: name -> content."""
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    weights: bytes = safetensors.torch.save(state)
    card = replace(card, weights_sha256=hashlib.sha256(weights).hexdigest())
    return {CARD: card.to_json(), WEIGHTS: weights}


def read_package(path: Path) -> tuple[UNet, PackageCard]:
    """Return the network of a package, on the CPU and in evaluation mode, and its card.

    Nothing is unpacked to the disk, and no more is read than the network needs.

    Raises
    ------
    ModelPackageError
        When it is no package of BioSegment, or it was damaged or changed.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if CARD not in archive.namelist():
                raise ValueError(OTHER_NETWORK)
            card = PackageCard.from_json(_member(archive, CARD, MAX_CARD_BYTES))
            network = _network(card, archive)
    except (OSError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error) as exc:
        raise ModelPackageError(path, _told(exc)) from exc
    except (KeyError, RuntimeError, SafetensorError, ValueError, RecursionError) as exc:
        raise ModelPackageError(path, " ".join(str(exc).split())) from exc
    return network.eval(), card


def _network(card: PackageCard, archive: zipfile.ZipFile) -> UNet:
    # Nothing is allocated for what the card says but the weights do not hold.
    with torch.device("meta"):
        network = UNet(UNetSpec(**card.architecture_spec))
    expected = sum(value.nbytes for value in network.state_dict().values())
    # The header names each tensor.
    limit = min(expected + MAX_CARD_BYTES, MAX_WEIGHTS_BYTES)
    weights = _member(archive, WEIGHTS, limit)
    if hashlib.sha256(weights).hexdigest() != card.weights_sha256:
        raise ValueError("the checksum of its weights is not the one that it tells")
    state = safetensors.torch.load(weights)
    if not all(bool(value.isfinite().all()) for value in state.values()):
        raise ValueError("some of its weights are not numbers")
    try:
        network.load_state_dict(state, assign=True)
    except RuntimeError as exc:
        raise ValueError("its weights are not those of the network that it describes") from exc
    return network


def _member(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Return a member whose size, as the archive tells it, is at most `limit`.

    No more than that size is ever decompressed.
    """
    size = archive.getinfo(name).file_size
    if size > limit:
        raise ValueError(f"its {name} has {size} bytes, and {limit} are the most there can be")
    return archive.read(name)


def _told(exc: Exception) -> str:
    if isinstance(exc, OSError) and exc.strerror:
        return exc.strerror
    return f"it is no zip file, or damaged ({exc})"
