"""The learning curve: quality of each model version over the labels it was trained with."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ml_backend.live_quality import live_qualities
from ml_backend.model_card import ModelCard


def learning_curve(
    labels: Sequence[int],
    iou: Sequence[float],
    caption: str,
    errors: Sequence[float] | None = None,
) -> Figure:
    """Return a plot of IoU over the number of labels.

    Parameters
    ----------
    labels
        Number of labels at each point.
    iou
        Intersection over union there, in [0, 1].
    caption
        What the IoU was measured on.
    errors
        Its standard error at each point, drawn as a bar; none where it is NaN.
    """
    figure = Figure(figsize=(6.0, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.errorbar(labels, iou, yerr=errors, marker="o", capsize=3, color="#0077BB")
    axes.set_xlabel("labelled tiles")
    axes.set_ylabel("IoU")
    axes.set_xlim(0, 1.1 * max(labels, default=10))
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.set_title(caption, fontsize="medium")
    return figure


def curve_svg(cards: Sequence[ModelCard]) -> bytes:
    """Return the live IoU of a project's versions over their labels as an SVG picture."""
    measured = [(each.labels, each.mean) for each in live_qualities(cards) if each.mean is not None]
    figure = learning_curve(
        [labels for labels, _ in measured],
        [mean.value for _, mean in measured],
        "Live IoU: on each round's new labels, before learning from them",
        [mean.error for _, mean in measured],
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()
