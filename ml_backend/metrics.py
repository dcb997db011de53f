"""How well a predictor does on annotated tiles."""

from collections.abc import Sequence
from typing import TypedDict

import torch
from torchmetrics.classification import MulticlassConfusionMatrix

from biosegment.labels import UNKNOWN
from ml_backend.dataset import LabelledTile
from ml_backend.predictor import Predictor


class Metrics(TypedDict):
    """Agreement of prediction and annotation over the known pixels of some tiles."""

    iou: dict[str, float | None]
    """Jaccard index of each foreground class; None where neither side has a pixel of it."""
    mean_iou: float | None
    """Mean over the foreground classes that have one."""
    tiles: int
    """Number of tiles compared."""


def evaluate(
    predictor: Predictor, tiles: Sequence[LabelledTile], classes: Sequence[str]
) -> Metrics:
    """Return the Jaccard index of every foreground class, pixels of all tiles taken together.

    Parameters
    ----------
    predictor : Predictor
    tiles : sequence of LabelledTile
    classes : sequence of str
        Class names, background first.
    """
    confusion = MulticlassConfusionMatrix(len(classes), ignore_index=UNKNOWN)
    for tile, probs in zip(
        tiles, predictor.probabilities(tile.image for tile in tiles), strict=True
    ):
        confusion.update(torch.from_numpy(probs.argmax(axis=0)), torch.from_numpy(tile.mask).long())
    counts = confusion.compute() if tiles else confusion.confmat
    both = counts.diagonal()
    either = counts.sum(dim=0) + counts.sum(dim=1) - both
    iou = {
        name: int(both[index]) / int(either[index]) if either[index] else None
        for index, name in enumerate(classes)
        if index > 0
    }
    present = [value for value in iou.values() if value is not None]
    return {
        "iou": iou,
        "mean_iou": sum(present) / len(present) if present else None,
        "tiles": len(tiles),
    }
