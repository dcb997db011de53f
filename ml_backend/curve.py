"""The learning curve: quality of each model version over the labels it was trained with."""

import io
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ml_backend.model_card import ModelCard


def learning_curve(labels: Sequence[int], iou: Sequence[float], caption: str) -> Figure:
    """Return a plot of IoU over the number of labels.

    Parameters
    ----------
    labels
        Number of labels at each point.
    iou
        Intersection over union there, in [0, 1].
    caption
        What the IoU was measured on.
    """
    figure = Figure(figsize=(6.0, 3.2), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(labels, iou, marker="o", color="#0077BB")
    axes.set_xlabel("labelled tiles")
    axes.set_ylabel("IoU")
    axes.set_ylim(0, 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.set_title(caption, fontsize="medium")
    return figure


def curve_svg(cards: Sequence[ModelCard]) -> bytes:
    """Return the learning curve of a project's versions as an SVG picture."""
    measured = [
        (len(card.annotations), card.metrics["mean_iou"])
        for card in cards
        if card.metrics["mean_iou"] is not None
    ]
    figure = learning_curve(
        [labels for labels, _ in measured],
        [iou for _, iou in measured if iou is not None],
        "Held-out tasks (a fifth of those annotated)",
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg")
    return buffer.getvalue()
