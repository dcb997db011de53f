"""How each version did on the tiles annotated after it, and what a round of labels brought.

Tile i has k_i pixels of a class kept and u_i predicted or annotated; the IoU of all tiles together
is R = sum k_i / sum u_i. It is a ratio of sums over tiles, whose standard error is, by the
infinitesimal jackknife (W. G. Cochran: Sampling Techniques, 3rd ed. 1977, section 2.11, for a
sample of infinitely many tiles),

    sqrt(n / (n - 1) * sum_i d_i^2),    d_i = (k_i - R u_i) / sum_j u_j.

A mean over classes has the mean of their d_i; a difference between two versions on the same tiles
the difference, so that what makes a tile hard for both cancels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ml_backend.model_card import ModelCard
from ml_backend.rounds import Overlap, Overlaps

STOP_ROUNDS: Final = 2
"""Rounds in a row that must have brought nothing before labelling is called into question."""
STOP_TILES: Final = 5
"""Tiles that each of their gains must have been measured on, for its error to mean something."""
STOP_NOISE: Final = 0.05
"""IoU. With a larger error even a real gain would drown, and the labels get the benefit of the
doubt."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """An IoU, or a difference of two."""

    value: float
    error: float
    """Its standard error over tiles; NaN for a single tile."""

    def __str__(self) -> str:
        return f"{self.value:.3f}" + ("" if math.isnan(self.error) else f" ± {self.error:.3f}")


@dataclass(frozen=True, slots=True)
class LiveQuality:
    """How a version did on annotations that no version had learned from."""

    version: str
    labels: int
    """Annotations that it was trained on."""
    new_labels: int
    """How many of them its parent did not have."""
    tiles: int
    """Tiles that it was compared with."""
    iou: Mapping[str, float | None]
    """Intersection over union of each foreground class, pixels of all tiles together; None where
    neither side has a pixel of it."""
    mean: Estimate | None
    """Mean over the classes that have one."""
    kept_share: float | None
    """Part of the predicted foreground pixels that the experts kept; None if there was none."""
    gain: Estimate | None
    """Mean IoU less that of its parent on the same tiles; None where that was not measured, or on
    a single tile."""


def live_qualities(cards: Sequence[ModelCard]) -> list[LiveQuality]:
    """Return what the rounds tell of the versions, oldest first; only those that were tested.

    Parameters
    ----------
    cards : sequence of ModelCard
        Of all versions of a project, oldest first. The test of a version stands in the card of
        the one trained from it.
    """
    by_version = {card.version: card for card in cards}
    found = []
    for card in cards:
        tested = by_version.get(card.parent or "")
        live = [record.live for record in card.round if record.live is not None]
        if tested is not None and live:
            parent = by_version.get(tested.parent or "")
            found.append(_live_quality(card, tested, len(parent.annotations) if parent else 0))
    return found


def _live_quality(card: ModelCard, tested: ModelCard, parent_labels: int) -> LiveQuality:
    live = [record.live for record in card.round if record.live is not None]
    pairs = [(r.live, r.before) for r in card.round if r.live is not None and r.before is not None]
    every = [overlap for tile in live for overlap in tile.values()]
    predicted = sum(overlap.predicted for overlap in every)
    iou, shifts = _iou_and_shifts(live, _classes(live))
    return LiveQuality(
        version=tested.version,
        labels=len(tested.annotations),
        new_labels=len(tested.annotations) - parent_labels,
        tiles=len(live),
        iou={
            name: None if np.isnan(value) else float(value)
            for name, value in zip(_classes(live), iou, strict=True)
        },
        mean=_estimate(iou, shifts),
        kept_share=sum(overlap.kept for overlap in every) / predicted if predicted else None,
        gain=_gain([now for now, _ in pairs], [before for _, before in pairs]),
    )


def _gain(now: Sequence[Overlaps], before: Sequence[Overlaps]) -> Estimate | None:
    if len(now) < 2:
        return None
    names = _classes(now)
    iou_now, shifts_now = _iou_and_shifts(now, names)
    iou_before, shifts_before = _iou_and_shifts(before, names)
    return _estimate(iou_now - iou_before, shifts_now - shifts_before)


def _classes(tiles: Sequence[Overlaps]) -> list[str]:
    return list(dict.fromkeys(name for tile in tiles for name in tile))


def _iou_and_shifts(
    tiles: Sequence[Overlaps], names: Sequence[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the IoU of each class (C,), and d_i of each tile and class (N, C); NaN if absent."""
    nothing = Overlap(0, 0, 0)
    found = [[tile.get(name, nothing) for name in names] for tile in tiles]
    kept = np.array([[each.kept for each in row] for row in found], np.float64)
    either = np.array([[e.predicted + e.annotated - e.kept for e in row] for row in found])
    total = np.where(either.sum(axis=0) > 0, either.sum(axis=0), np.nan)
    iou = kept.sum(axis=0) / total
    return iou, (kept - iou * either) / total


def _estimate(values: NDArray[np.float64], shifts: NDArray[np.float64]) -> Estimate | None:
    """Return the mean over the classes that are there; None when there is none."""
    present = ~np.isnan(values)
    if not present.any():
        return None
    tiles = len(shifts)
    value = float(values[present].mean())
    if tiles < 2:
        return Estimate(value, math.nan)
    of_mean = shifts[:, present].mean(axis=1)
    return Estimate(value, math.sqrt(tiles / (tiles - 1) * float((of_mean**2).sum())))


def advice(qualities: Sequence[LiveQuality]) -> str:
    """Return in a sentence or two what the last rounds brought; empty while that is not known.

    Labelling is called into question when the last `STOP_ROUNDS` gains, each on `STOP_TILES`
    tiles or more, are at most their standard error, one by one and taken together, and the error
    of their sum is neither above `STOP_NOISE` nor 0: a network that finds nothing at all is no
    reason to stop.
    """
    rounds = [(each, each.gain) for each in qualities if each.gain is not None]
    if not rounds:
        return ""
    last = rounds[-STOP_ROUNDS:]
    gains = [gain for _, gain in last]
    total = Estimate(sum(g.value for g in gains), math.hypot(*(g.error for g in gains)))
    if (
        len(last) == STOP_ROUNDS
        and all(each.tiles >= STOP_TILES for each, _ in last)
        and all(gain.value <= gain.error for gain in (*gains, total))
        and 0 < total.error <= STOP_NOISE
    ):
        labels = sum(each.new_labels for each, _ in last)
        return (
            f"The last {STOP_ROUNDS} rounds ({labels} labels) brought less than the noise: "
            f"{_signed(total)} IoU. More labels may not help; segment the volume, or go on where "
            "you see errors."
        )
    return f"The last round brought {_signed(gains[-1])} IoU."


def _signed(gain: Estimate) -> str:
    return f"{gain.value:+.3f} ± {gain.error:.3f}"
