"""What a search for a better recipe found, for people: a page, a table of trials and two plots."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from optuna.trial import FrozenTrial, TrialState

from biosegment.disk import explain_full_disk, write_atomically
from ml_backend.tuning import IOUS, SECONDS, Comparison, Outcome, Search

REPORT: Final = "report.md"
TRIALS: Final = "trials.csv"
HISTORY: Final = "history.png"
PARAMETERS: Final = "parameters.png"

COMPLETE_COLOUR: Final = "#0077BB"
BEST_COLOUR: Final = "#EE7733"


def write_report(folder: Path, search: Search, outcome: Outcome) -> Path:
    """Write the report of a search and return its path; what was there before is replaced.

    Raises
    ------
    DiskFullError
        When the disk takes no more.
    """
    trials = search.tried()
    with explain_full_disk(folder):
        write_atomically(folder / TRIALS, trials_csv(trials).encode())
        for name, figure in (
            (HISTORY, history_figure(trials)),
            (PARAMETERS, parameters_figure(trials)),
        ):
            picture = io.BytesIO()
            figure.savefig(picture, format="png", dpi=150)
            write_atomically(folder / name, picture.getvalue())
        write_atomically(folder / REPORT, page(search, outcome).encode())
    return folder / REPORT


def trials_csv(trials: Sequence[FrozenTrial]) -> str:
    """Return a line a trial: its recipe, its IoU in each fold it came to, seconds of training."""
    folds = max((len(trial.user_attrs.get(IOUS, [])) for trial in trials), default=0)
    names = sorted({name for trial in trials for name in trial.params})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    numbers = [f"iou_{fold + 1}" for fold in range(folds)]
    writer.writerow(["trial", "state", *names, "mean_iou", *numbers, "train_s"])
    for index, trial in enumerate(trials):
        ious = trial.user_attrs.get(IOUS, [])
        writer.writerow(
            [
                index,
                "complete" if _is_complete(trial) else "pruned",
                *(trial.params[name] for name in names),
                trial.value if _is_complete(trial) else "",
                *ious,
                *[""] * (folds - len(ious)),
                trial.user_attrs.get(SECONDS, ""),
            ]
        )
    return text.getvalue()


def history_figure(trials: Sequence[FrozenTrial]) -> Figure:
    """Return a plot of the mean IoU of every trial, and of the best up to it."""
    figure = Figure(figsize=(6.0, 3.6), layout="constrained")
    axes = figure.add_subplot()
    _scatter(axes, [*enumerate(trials)])
    best = np.maximum.accumulate(
        [trial.value or 0.0 if _is_complete(trial) else 0.0 for trial in trials]
    )
    axes.step(range(len(trials)), best, where="post", color=BEST_COLOUR, label="best so far")
    axes.set_xlabel("trial (0 is the recipe in use)")
    axes.set_ylabel("mean IoU")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def parameters_figure(trials: Sequence[FrozenTrial]) -> Figure:
    """Return a plot of mean IoU over each parameter of the recipe."""
    names = sorted(trials[0].params)
    figure = Figure(figsize=(9.0, 6.0), layout="constrained")
    for axes, name in zip(figure.subplots(2, 2, sharey=True).flat, names, strict=True):
        values = [trial.params[name] for trial in trials]
        if isinstance(values[0], str):
            choices = sorted(set(values), key=lambda each: [*map(int, each.split("-"))])
            axes.set_xticks(range(len(choices)), choices, fontsize="small", rotation=15)
            values = [choices.index(value) for value in values]
        _scatter(axes, [*zip(values, trials, strict=True)])
        if name == "learning_rate":
            axes.set_xscale("log")
        axes.set_xlabel(name)
        axes.set_ylabel("mean IoU")
        axes.grid(alpha=0.3)
    return figure


def page(search: Search, outcome: Outcome) -> str:
    """Return the report as Markdown."""
    data, folds = search.data, len(outcome.found.current.ious)
    lines = [
        "# Search for a training recipe",
        "",
        verdict(outcome),
        "",
        *_comparison("In the search", outcome.found),
    ]
    if outcome.confirmed:
        lines += _comparison("Anew, on other folds and with another seed", outcome.confirmed)
    lines += [
        "IoU is the mean over the foreground classes, then over the folds; ± is the standard",
        "deviation over the folds.",
        "",
        "## Settings",
        "",
        f"- {len(data.tasks)} annotated tasks in {folds} folds, "
        f"{sum(map(len, data.tasks))} tiles, classes: {', '.join(data.spec.classes)}",
        f"- every training from random weights: {data.spec.first_steps} steps times an effort of "
        f"{data.spec.effort:g}, batches of {data.spec.batch_size}",
        f"- {outcome.trials} recipes tried, {outcome.pruned} of them given up early",
        "",
        "## Trials",
        "",
        f"All of them: [{TRIALS}]({TRIALS}). Hollow points were given up early.",
        "",
        f"![IoU of each trial]({HISTORY})",
        "",
        f"![IoU over each parameter]({PARAMETERS})",
        "",
    ]
    return "\n".join(lines)


def verdict(outcome: Outcome) -> str:
    """Return in a sentence whether the best recipe should replace the one in use."""
    confirmed = outcome.confirmed
    if confirmed is None:
        return "No other recipe did better than the one in use; it stays."
    what = f"its gain when measured anew, {confirmed.gain:+.3f}, is"
    noise = f"the noise between folds, {confirmed.noise:.3f}"
    if outcome.recommended:
        return f"The best recipe is recommended: {what} above {noise}."
    return f"The recipe in use stays: the best one is not surely better, {what} not above {noise}."


def rows(comparison: Comparison) -> list[tuple[str, str, str]]:
    """Return, line by line, what is compared, of the recipe in use and of the best one."""
    sides = (comparison.current, comparison.best)
    texts = [
        {
            "learning rate": f"{each.recipe.learning_rate:.2g}",
            "widths": "-".join(map(str, each.recipe.widths)),
            "Dice weight": f"{each.recipe.dice_weight:.2f}",
            "augmentation": f"{each.recipe.augmentation:.2f}",
            "mean IoU": f"{each.mean:.3f} ± {each.spread:.3f}",
        }
        for each in sides
    ]
    return [(name, texts[0][name], texts[1][name]) for name in texts[0]]


def _comparison(title: str, comparison: Comparison) -> list[str]:
    table = [f"| {' | '.join(row)} |" for row in rows(comparison)]
    return [f"## {title}", "", "| | in use | best |", "|---|---|---|", *table, ""]


def _scatter(axes: Axes, points: Sequence[tuple[float, FrozenTrial]]) -> None:
    for complete, label in ((True, "complete"), (False, "given up early")):
        chosen = [(x, t) for x, t in points if _is_complete(t) is complete and _mean(t) is not None]
        axes.scatter(
            [x for x, _ in chosen],
            [_mean(trial) or 0.0 for _, trial in chosen],
            color=COMPLETE_COLOUR,
            facecolors=None if complete else "none",
            label=label,
        )


def _is_complete(trial: FrozenTrial) -> bool:
    return trial.state == TrialState.COMPLETE


def _mean(trial: FrozenTrial) -> float | None:
    ious = trial.user_attrs.get(IOUS)
    return float(np.mean(ious)) if ious else None
