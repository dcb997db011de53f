"""What the results of an experiment say: means over seeds, their spread, and the plot of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from biosegment.labels import PALETTE
from ml_backend.experiment import CEILINGS, CONVERGED, Protocol, Round, Run, is_complete

BASELINE: Final = "random"


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The learning curves of one strategy."""

    labels: NDArray[np.int64]
    """Shape (L,): labelled tiles of each round."""
    iou: NDArray[np.float64]
    """Shape (S, L): of each seed and round, in [0, 1]."""

    @property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the seeds, shape (L,)."""
        mean: NDArray[np.float64] = self.iou.mean(axis=0)
        return mean

    @property
    def spread(self) -> NDArray[np.float64]:
        """Standard deviation over the seeds (n - 1), shape (L,); 0 for a single seed."""
        if len(self.iou) == 1:
            return np.zeros(len(self.labels))
        spread: NDArray[np.float64] = self.iou.std(axis=0, ddof=1)
        return spread


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of the report. Each ± is a standard deviation over seeds, 0 for a single one."""

    name: str
    """Of the strategy or ceiling."""
    seeds: int
    """Complete runs."""
    final_iou: float
    """Mean IoU at the end."""
    final_spread: float
    """± of it."""
    area: float | None
    """Mean area under the curve; None for a ceiling."""
    area_spread: float
    """± of it."""
    of_random: float | None
    """Final IoU as a multiple of random's."""
    of_converged: float | None
    """Final IoU as a share of that of converged full supervision."""
    budget: float | None
    """Share of random's labels at which random's final IoU is reached; None where it is not."""


def curves(results: Mapping[Run, Sequence[Round]], protocol: Protocol) -> dict[str, Curve]:
    """Return the curves of every strategy and ceiling by name, from its complete runs only."""
    complete: dict[str, list[Sequence[Round]]] = {}
    for run, rounds in results.items():
        if is_complete(run, rounds, protocol):
            complete.setdefault(run.strategy, []).append(rounds)
    return {
        name: Curve(
            np.array([done.labels for done in runs[0]]),
            np.array([[done.iou for done in rounds] for rounds in runs]),
        )
        for name, runs in complete.items()
    }


def area_under_curve(labels: NDArray[np.int64], iou: NDArray[np.float64]) -> float:
    """Return the area under IoU over labels, divided by the range of labels: the mean height.

    Parameters
    ----------
    labels : ndarray of int, shape (L,), ascending
    iou : ndarray of float, shape (L,)
    """
    if len(labels) == 1:
        return float(iou[0])
    return float(np.trapezoid(iou, labels) / (labels[-1] - labels[0]))


def labels_to_reach(
    labels: NDArray[np.int64], iou: NDArray[np.float64], target: float
) -> float | None:
    """Return the number of labels at which a curve first reaches an IoU; None if it never does.

    Between rounds the curve is taken to be straight.
    """
    reached = np.flatnonzero(iou >= target)
    if not len(reached):
        return None
    index = int(reached[0])
    if index == 0:
        return float(labels[0])
    around = slice(index - 1, index + 1)
    return float(np.interp(target, iou[around], labels[around]))


def summaries(found: Mapping[str, Curve]) -> list[Summary]:
    """Return a line a strategy, the best area under the curve first, then the ceilings."""
    lines = [_summary(name, found) for name in found]
    return sorted(lines, key=lambda line: (line.area is None, -(line.area or line.final_iou)))


def _summary(name: str, found: Mapping[str, Curve]) -> Summary:
    curve = found[name]
    final = float(curve.mean[-1])
    random, converged = found.get(BASELINE), found.get(CONVERGED)
    if name in CEILINGS:
        area, area_spread, reached = None, 0.0, None
    else:
        areas = np.array([[area_under_curve(curve.labels, iou)] for iou in curve.iou])
        spread = Curve(curve.labels[-1:], areas)
        area, area_spread = float(spread.mean[0]), float(spread.spread[0])
        reached = random and labels_to_reach(curve.labels, curve.mean, float(random.mean[-1]))
    return Summary(
        name=name,
        seeds=len(curve.iou),
        final_iou=final,
        final_spread=float(curve.spread[-1]),
        area=area,
        area_spread=area_spread,
        of_random=_ratio(final, random),
        of_converged=_ratio(final, converged),
        budget=reached / float(random.labels[-1]) if random and reached else None,
    )


def _ratio(final: float, reference: Curve | None) -> float | None:
    if reference is None or not reference.mean[-1]:
        return None
    return final / float(reference.mean[-1])


def curves_figure(found: Mapping[str, Curve], title: str) -> Figure:
    """Return a plot of IoU over labels: mean and spread of each strategy, ceilings as lines."""
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    strategies = [name for name in found if name not in CEILINGS]
    for index, name in enumerate(strategies):
        curve = found[name]
        colour = PALETTE[index % len(PALETTE)]
        style = "-" if index < len(PALETTE) else "--"
        axes.plot(curve.labels, curve.mean, style, marker=".", color=colour, label=name)
        low, high = curve.mean - curve.spread, curve.mean + curve.spread
        axes.fill_between(curve.labels, low, high, color=colour, alpha=0.15, linewidth=0)
    for name, style in zip(CEILINGS, (":", "--"), strict=True):
        if name in found:
            label = f"all {found[name].labels[-1]} tiles, {name}"
            axes.axhline(found[name].mean[-1], color="black", linestyle=style, label=label)
    axes.set_xlabel("labelled tiles")
    axes.set_ylabel("IoU on the test half")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.set_title(title, fontsize="medium")
    axes.legend(fontsize="small")
    return figure
