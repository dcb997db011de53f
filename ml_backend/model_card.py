"""What is known of a trained version, beside its weights."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from biosegment import __version__
from biosegment.errors import ModelDamagedError
from ml_backend.model.unet import NORMALISATION
from ml_backend.rounds import AnnotationRecord
from ml_backend.training import TrainedModel

UNET: Final = "unet"
SOFTWARE: Final = ("torch", "pytorch-lightning", "monai", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard:
    """How a version came to be, and what it is good for."""

    class_names: Sequence[str]
    """Names of the classes that the network tells apart, background first."""
    strategy: str
    """Query strategy that orders the queue while this version serves."""
    annotations: Mapping[str, str]
    """Annotation id -> when it was last changed, of every annotation that went in."""
    left_out: Mapping[str, str]
    """The same of annotations that could not be used."""
    labels: int
    """Number of annotated tiles."""
    lead_time_s: float
    """Time that the annotators spent on them, in seconds."""
    parent: str | None
    """Version that training started from."""
    training: Mapping[str, Any]
    """The recipe: fields of `TrainingSpec`."""
    architecture: str
    """Name of the kind of network."""
    architecture_spec: Mapping[str, Any]
    """What builds the network: fields of `UNetSpec`."""
    normalisation: str
    """What the network expects its input to be."""
    software: Mapping[str, str]
    """Package -> version."""
    round: Sequence[AnnotationRecord] = ()
    """The annotations that no version before had learned from, as a test of the parent."""
    imported: Mapping[str, Any] | None = None
    """What its package told of a version that was not trained here: fields of `PackageCard`."""
    version: str = ""
    created: str = ""
    """Time of saving: ISO 8601, UTC."""
    weights_sha256: str = ""

    @classmethod
    def of(
        cls,
        trained: TrainedModel,
        *,
        strategy: str,
        annotations: Mapping[str, str],
        left_out: Mapping[str, str],
        lead_time_s: float,
        parent: str | None,
        round: Sequence[AnnotationRecord] = (),
    ) -> "ModelCard":
        """Return the card of a training run."""
        return cls(
            class_names=list(trained.spec.classes),
            strategy=strategy,
            annotations=dict(annotations),
            left_out=dict(left_out),
            labels=trained.labels,
            lead_time_s=lead_time_s,
            parent=parent,
            round=tuple(round),
            training=asdict(trained.spec),
            architecture=UNET,
            architecture_spec=asdict(trained.network.spec),
            normalisation=NORMALISATION,
            software={"biosegment": __version__} | {name: version(name) for name in SOFTWARE},
        )

    @classmethod
    def from_json(cls, text: bytes) -> "ModelCard":
        """Read a card; fields of other releases are left out.

        Raises
        ------
        ValueError
            When it is not the JSON of a card.
        """
        known = {field.name for field in fields(cls)}
        content = json.loads(text)
        try:
            values = {name: value for name, value in content.items() if name in known}
            records = tuple(map(AnnotationRecord.from_json, values.pop("round", ())))
            return cls(**values, round=records)
        except (AttributeError, KeyError, TypeError) as exc:
            raise ValueError(f"it is not a model card ({exc})") from exc

    def check_weights(self, path: Path | str, weights: bytes) -> None:
        """Raise `ModelDamagedError`, which names `path`, unless the weights are the right ones."""
        if hashlib.sha256(weights).hexdigest() != self.weights_sha256:
            raise ModelDamagedError(path, "its checksum is not the one on the card")
