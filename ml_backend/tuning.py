"""Search for a training recipe that does better on a project's labels than the one in use.

Recipes are proposed by Optuna's tree-structured Parzen estimator [1]_, the one in use first, and
compared by cross-validation from random weights. One that is worse after a fold than the median of
the others is given up. The best of many is so partly by luck: it and the recipe in use are then
measured once more, on other folds and with another seed, and only that counts.

References
----------
.. [1] Bergstra, Bardenet, Bengio, Kégl: Algorithms for hyper-parameter optimization. NeurIPS 2011.
   Akiba et al.: Optuna: A next-generation hyperparameter optimization framework. KDD 2019,
   https://arxiv.org/abs/1907.10902
"""

import logging
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import torch
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from biosegment.progress import Report
from ml_backend.metrics import evaluate
from ml_backend.predictor import Predictor
from ml_backend.recipe import Recipe
from ml_backend.training import TrainingSpec, train
from ml_backend.tuning_data import SETTINGS, TuningData, is_saved

logger = logging.getLogger(__name__)

JOURNAL: Final = "study.jsonl"
LEARNING_RATES: Final = (3e-4, 1e-2)
WEIGHTS: Final = (0.0, 2.0)
"""Of the Dice loss and of augmentation, as multiples of the default."""
PYRAMIDS: Final = (
    (8, 16, 32, 64, 128),
    (16, 32, 64, 128, 256),
    (24, 48, 96, 192, 384),
    (32, 64, 128, 256, 512),
)
"""Widths of the network."""
GROWTH: Final = 2.0
"""Trainings take at most this many times as long as on few labels: recipes are told apart sooner
than the best possible IoU is reached."""
IOUS: Final = "ious"
SECONDS: Final = "seconds"
CONFIRMED: Final = "confirmed-{}"


@dataclass(frozen=True, slots=True)
class Measured:
    """How a recipe did."""

    recipe: Recipe
    ious: Sequence[float]
    """Mean foreground IoU of each fold, in [0, 1]."""

    @property
    def mean(self) -> float:
        """Mean over the folds."""
        return statistics.mean(self.ious)

    @property
    def spread(self) -> float:
        """Standard deviation over the folds (n - 1); 0 for a single one."""
        return statistics.stdev(self.ious) if len(self.ious) > 1 else 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The recipe in use against another on the same folds, with the same seed."""

    current: Measured
    best: Measured

    @property
    def gain(self) -> float:
        """Mean over the folds of what the other has more."""
        return self.best.mean - self.current.mean

    @property
    def noise(self) -> float:
        """Standard deviation over the folds of that difference (n - 1)."""
        pairs = zip(self.best.ious, self.current.ious, strict=True)
        return Measured(self.best.recipe, [best - current for best, current in pairs]).spread


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a complete search found."""

    found: Comparison
    """In the search, the other recipe being the best of it."""
    confirmed: Comparison | None
    """Measured anew; None when nothing was better than the recipe in use."""
    trials: int
    """Recipes tried."""
    pruned: int
    """Those given up early."""

    @property
    def recommended(self) -> bool:
        """Whether the best recipe is better by more than the noise when measured anew."""
        return self.confirmed is not None and self.confirmed.gain > self.confirmed.noise

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Outcome":
        """Return the outcome that `dataclasses.asdict` made a dictionary of."""
        found, confirmed = (
            each and Comparison(_measured(each["current"]), _measured(each["best"]))
            for each in (content["found"], content["confirmed"])
        )
        return cls(found, confirmed, content["trials"], content["pruned"])


class Search:
    """A search whose every step is on disk at once; it goes on where it was interrupted.

    One process at a time works in a folder.

    Parameters
    ----------
    folder : Path
        Where the study lies, and the settings that `TuningData.save` wrote.
    data : TuningData
    """

    def __init__(self, folder: Path, data: TuningData) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.data = data
        self._current = Recipe.of(data.spec)
        self._space = search_space(self._current)
        self._study = _open_study(folder / JOURNAL)

    def run(self, trials: int, report: Report, pause: Callable[[], bool]) -> Outcome | None:
        """Try recipes until there are so many, then measure the best anew.

        Parameters
        ----------
        trials : int
            Those of earlier runs count, and so does the recipe in use.
        report : Report
        pause : callable
            Asked after every training whether to stop here, to go on later.

        Returns
        -------
        Outcome or None
            None when paused.
        """
        folds = self.data.folds(self.data.spec.seed)
        total = (trials + 2) * len(folds)
        self._take_up()
        while (done := len(self.tried())) < trials:
            report("searching", done * len(folds), total)
            if not self._try_one(folds, pause) or pause():
                return None
        best, current = self._best_and_current()
        if best.number == current.number:
            return self._outcome(best, current, None)
        done = trials * len(folds)
        confirmed = self._confirm(
            best, current, lambda more: report("measuring the best anew", done + more, total), pause
        )
        return self._outcome(best, current, confirmed) if confirmed else None

    def tried(self) -> list[FrozenTrial]:
        """Return the trials that are over, in the order in which they ended."""
        return self._study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))

    @property
    def best_iou(self) -> float | None:
        """The highest mean IoU so far."""
        complete = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return max((trial.value or 0.0 for trial in complete), default=None)

    def _take_up(self) -> None:
        """Let a trial that an interruption left behind be tried again, its folds kept."""
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.tell(trial.number, state=TrialState.FAIL)
            if set(trial.params) == set(self._space):
                self._study.enqueue_trial(trial.params, trial.user_attrs)
        if not self.tried() and not self._study.get_trials(states=(TrialState.WAITING,)):
            self._study.enqueue_trial(_params(self._current))

    def _try_one(self, folds: Sequence[NDArray[np.intp]], pause: Callable[[], bool]) -> bool:
        """Measure one recipe; return False when paused before its end."""
        # A seed of its own for each trial: an interruption changes nothing.
        self._study.sampler = TPESampler(seed=len(self.tried()))
        trial = self._study.ask(self._space)
        ious: list[float] = list(trial.user_attrs.get(IOUS, []))
        spec = _recipe(trial.params).applied_to(self.data.spec)
        for fold, held_out in enumerate(folds):
            measured_before = fold < len(ious)
            if not measured_before and not self._measure(trial, spec, held_out, ious):
                self._study.tell(trial, state=TrialState.PRUNED)
                return True
            trial.report(statistics.mean(ious[: fold + 1]), fold)
            if fold + 1 < len(folds):
                if trial.should_prune():
                    self._study.tell(trial, state=TrialState.PRUNED)
                    return True
                if not measured_before and pause():
                    return False
        self._study.tell(trial, statistics.mean(ious))
        return True

    def _measure(
        self, trial: Trial, spec: TrainingSpec, held_out: NDArray[np.intp], ious: list[float]
    ) -> bool:
        """Add the IoU of a fold; return False when the device has no room for the network."""
        began = time.monotonic()
        try:
            ious.append(self._iou(spec, held_out))
        except torch.OutOfMemoryError:
            if not self.tried():
                raise
            logger.warning("a network of widths %s has no room", spec.widths)
            return False
        spent = trial.user_attrs.get(SECONDS, 0.0) + time.monotonic() - began
        trial.set_user_attr(SECONDS, round(spent, 1))
        trial.set_user_attr(IOUS, ious)
        return True

    def _iou(self, spec: TrainingSpec, held_out: NDArray[np.intp]) -> float:
        training, validation = self.data.split(held_out)
        network = train(training, [], replace(spec, max_growth=GROWTH)).network
        return evaluate(Predictor(network), validation, spec.classes)["mean_iou"] or 0.0

    def _best_and_current(self) -> tuple[FrozenTrial, FrozenTrial]:
        complete = self._study.get_trials(states=(TrialState.COMPLETE,))
        # The first of equals is the recipe in use.
        return max(complete, key=lambda trial: trial.value or 0.0), complete[0]

    def _confirm(
        self,
        best: FrozenTrial,
        current: FrozenTrial,
        report: Callable[[int], None],
        pause: Callable[[], bool],
    ) -> Comparison | None:
        seed = self.data.spec.seed + 1
        folds = self.data.folds(seed)
        measured: list[Measured] = []
        for trial in (current, best):
            recipe, name = _recipe(trial.params), CONFIRMED.format(trial.number)
            ious: list[float] = list(self._study.user_attrs.get(name, []))
            spec = replace(recipe.applied_to(self.data.spec), seed=seed)
            for held_out in folds[len(ious) :]:
                report(len(measured) * len(folds) + len(ious))
                ious.append(self._iou(spec, held_out))
                self._study.set_user_attr(name, ious)
                if pause():
                    return None
            measured.append(Measured(recipe, tuple(ious)))
        return Comparison(*measured)

    def _outcome(
        self, best: FrozenTrial, current: FrozenTrial, confirmed: Comparison | None
    ) -> Outcome:
        found = (Measured(_recipe(t.params), tuple(t.user_attrs[IOUS])) for t in (current, best))
        pruned = len(self._study.get_trials(states=(TrialState.PRUNED,)))
        return Outcome(Comparison(*found), confirmed, len(self.tried()), pruned)


def prepare(folder: Path, data: TuningData) -> None:
    """Make a folder ready for a search on this data; what it holds of others is removed.

    Raises
    ------
    TooFewLabelsError
        When there is not enough to compare recipes on.
    DiskFullError
        When the disk takes no more.
    """
    data.check()
    if is_saved(folder, data):
        return
    # The settings first: without them, what is left is of no search.
    for name in (SETTINGS, JOURNAL):
        (folder / name).unlink(missing_ok=True)
    data.save(folder)


def search_space(current: Recipe) -> dict[str, BaseDistribution]:
    """Return what is searched; a recipe in use that lies outside widens it."""
    low, high = LEARNING_RATES
    rate = current.learning_rate
    pyramids = dict.fromkeys([*PYRAMIDS, tuple(current.widths)])
    return {
        "learning_rate": FloatDistribution(min(low, rate), max(high, rate), log=True),
        "widths": CategoricalDistribution([_name(widths) for widths in pyramids]),
        "dice_weight": FloatDistribution(WEIGHTS[0], max(WEIGHTS[1], current.dice_weight)),
        "augmentation": FloatDistribution(WEIGHTS[0], max(WEIGHTS[1], current.augmentation)),
    }


def _params(recipe: Recipe) -> dict[str, Any]:
    return asdict(recipe) | {"widths": _name(recipe.widths)}


def _recipe(params: Mapping[str, Any]) -> Recipe:
    widths = tuple(int(width) for width in params["widths"].split("-"))
    return Recipe(**{**params, "widths": widths})


def _name(widths: Sequence[int]) -> str:
    # Optuna keeps no tuples.
    return "-".join(map(str, widths))


def _measured(content: Mapping[str, Any]) -> Measured:
    recipe = Recipe(**content["recipe"])
    return Measured(replace(recipe, widths=tuple(recipe.widths)), tuple(content["ious"]))


def _open_study(path: Path) -> optuna.Study:
    if path.exists():
        # A line that a full disk or a power cut left unfinished would spoil the next one.
        with path.open("rb+") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path.absolute()))),
        study_name="recipes",
        direction="maximize",
        pruner=MedianPruner(),
        load_if_exists=True,
    )
