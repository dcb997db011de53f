"""Training of a segmentation network on annotated tiles; knows nothing of projects and queues."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from pytorch_lightning.loggers import TensorBoardLogger

from biosegment.errors import NothingToTrainOnError
from biosegment.labels import UNKNOWN
from biosegment.progress import Progress, ignore
from ml_backend.dataset import AugmentedBatches, BatchSpec, LabelledTile
from ml_backend.hardware import best_device
from ml_backend.metrics import Metrics, evaluate
from ml_backend.model.fit import fit
from ml_backend.model.lit import SegmentationModule
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.predictor import Predictor

logger = logging.getLogger(__name__)

LOGGED_IMAGES: Final = 8
"""Validation tiles whose prediction is kept in the logs of a run."""
ROUND_PX: Final = 10 * 128 * 128
"""Newly labelled area, in pixels, that a run of the shortest length is made for."""


@dataclass(frozen=True, slots=True)
class TrainingSpec:
    """The recipe of a training run."""

    classes: Sequence[str]
    """Class names, background first."""
    widths: Sequence[int] = (16, 32, 64, 128, 256)
    """Channels of each level of the network."""
    dropout: float = 0.1
    """Dropout probability in the deepest levels."""
    first_steps: int = 240
    """Optimisation steps of a run that starts from random weights, for `ROUND_PX` of labels."""
    finetune_steps: int = 160
    """Optimisation steps of a run that starts from a parent, for `ROUND_PX` of new labels."""
    max_growth: float = 10.0
    """How many times as long a run on more labels takes, at most; 1: all are equally long."""
    effort: float = 1.0
    """Multiplies the steps: more where there is a GPU or time, less to try things out."""
    learning_rate: float = 2e-3
    """Peak of the one-cycle schedule."""
    dice_weight: float = 1.0
    """Weight of the soft Dice loss beside cross entropy."""
    augmentation: float = 1.0
    """Multiplies the ranges of contrast, brightness, gamma and noise; 0: they stay as they are."""
    ema_decay: float = 0.98
    """Decay per step of the moving average of the weights, which is what the run returns."""
    batch_size: int = 16
    """Crops in a step."""
    crop_px: int = 128
    """Side of a crop, at most; rounded up to a multiple of the network's stride."""
    seed: int = 0
    """Of the initial weights, dropout, crops and augmentation."""

    def steps(self, new_px: float, *, first: bool) -> int:
        """Return the optimisation steps of a run: twice the newly labelled area, twice the steps.

        Parameters
        ----------
        new_px : float
            Labelled area that the parent has not seen, in pixels.
        first : bool
            Whether there is no parent.
        """
        growth = min(max(1.0, new_px / ROUND_PX), self.max_growth)
        shortest = self.first_steps if first else self.finetune_steps
        return max(1, round(self.effort * growth * shortest))


@dataclass(frozen=True, slots=True)
class Parent:
    """A trained network to start from."""

    network: UNet
    classes: Sequence[str]
    """Its class names, background first."""
    tiles: int = 0
    """Number of tiles that it was trained on."""


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """The result of a run."""

    network: UNet
    """On the CPU, in evaluation mode."""
    spec: TrainingSpec
    """The recipe it was trained by."""
    labels: int
    """Number of tiles that were learned from or measured on."""
    metrics: Metrics
    """Measured on the validation tiles."""


def train(
    training: Sequence[LabelledTile],
    validation: Sequence[LabelledTile],
    spec: TrainingSpec,
    parent: Parent | None = None,
    log_dir: Path | None = None,
    progress: Progress = ignore,
) -> TrainedModel:
    """Return a network trained on annotated tiles, and how it does on other ones.

    The same arguments give the same weights on a CPU with the same number of threads. Nothing is
    written but `log_dir`; an interrupt or an error leaves nothing else behind.

    Parameters
    ----------
    training : sequence of LabelledTile
        Tiles without a known pixel are left out.
    validation : sequence of LabelledTile
        Never trained on; may be empty.
    spec : TrainingSpec
    parent : Parent, optional
        Left unchanged. Used when it has the widths of `spec`: all its weights are taken over but
        those of classes that it does not know.
    log_dir : Path, optional
        Where TensorBoard events go.
    progress : Progress
        Counts optimisation steps.

    Raises
    ------
    NothingToTrainOnError
        When no training tile has a known pixel.
    """
    tiles = [tile for tile in training if tile.has_known]
    if not tiles:
        raise NothingToTrainOnError(len(training))
    if parent is not None and tuple(parent.network.spec.widths) != tuple(spec.widths):
        logger.info("The parent has widths %s: starting afresh", parent.network.spec.widths)
        parent = None
    seen = parent.tiles / len(tiles) if parent else 0.0
    new_px = (1 - seen) * sum(tile.mask.size for tile in tiles)
    steps = spec.steps(new_px, first=parent is None)
    device = best_device()
    events = TensorBoardLogger(log_dir, name="", version="") if log_dir else None
    with _seeded(spec.seed, device):
        network = initial_network(spec, parent)
        batches = AugmentedBatches(tiles, _batch_spec(tiles, spec, network, steps), device)
        module = SegmentationModule(network, spec.learning_rate, steps, spec.dice_weight)
        fit(module, batches, spec.ema_decay, events, progress)
    predictor = Predictor(network, device)
    metrics = evaluate(predictor, validation, spec.classes)
    if events is not None:
        _log_validation(events, predictor, validation[:LOGGED_IMAGES], metrics, steps)
    return TrainedModel(network.cpu(), spec, len(tiles) + len(validation), metrics)


def initial_network(spec: TrainingSpec, parent: Parent | None) -> UNet:
    """Return the network that a run starts from: random weights, or what the parent knows.

    Classes are matched by name; the rows of the head that the parent lacks are random.
    """
    network = UNet(UNetSpec(len(spec.classes), tuple(spec.widths), spec.dropout))
    if parent is None:
        return network
    weights = {name: value.clone() for name, value in parent.network.state_dict().items()}
    for name, fresh in network.head.state_dict(prefix="head.").items():
        known = weights[name]
        weights[name] = fresh.clone()
        for row, label in enumerate(spec.classes):
            if label in parent.classes:
                weights[name][row] = known[list(parent.classes).index(label)]
    network.load_state_dict(weights)
    return network


def _batch_spec(
    tiles: Sequence[LabelledTile], spec: TrainingSpec, network: UNet, steps: int
) -> BatchSpec:
    side = min(spec.crop_px, max(max(tile.mask.shape) for tile in tiles))
    crop_px = side + -side % network.stride
    return BatchSpec(
        size=spec.batch_size,
        crop_px=crop_px,
        count=steps,
        seed=spec.seed,
        augmentation=spec.augmentation,
    )


def _log_validation(
    events: TensorBoardLogger,
    predictor: Predictor,
    tiles: Sequence[LabelledTile],
    metrics: Metrics,
    step: int,
) -> None:
    writer = events.experiment
    for name, iou in metrics["iou"].items():
        if iou is not None:
            writer.add_scalar(f"validation_iou/{name}", iou, step)
    for index, probs in enumerate(predictor.probabilities(tile.image for tile in tiles)):
        image = tiles[index].image
        certainty = 1 - probs[0]
        truth = np.where(tiles[index].mask == UNKNOWN, 0.5, tiles[index].mask > 0)
        panels = np.concatenate([image, certainty, truth], axis=1)
        writer.add_image(f"validation/{index}", panels, step, dataformats="HW")
    events.finalize("success")


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch for initial weights and dropout, and give the caller's state back."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
