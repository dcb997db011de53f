"""An expert played by ground truth: labels what Label Studio serves, measures what is learnt."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from biosegment.cli.console import console, folding_table
from biosegment.errors import LoopStalledError
from biosegment.geometry import Roi
from biosegment.labels import LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import prediction_regions, tile_of
from biosegment.settings import LoopOptions
from biosegment.store import VolumeStore
from biosegment.tiles import grid_tiles

if TYPE_CHECKING:
    from ml_backend.model_registry import ModelRegistry

TURN_TIMEOUT_S: Final = 1800.0
TEST_TILE_PX: Final = 512


@dataclass(frozen=True, slots=True)
class Project:
    """A project whose ground truth is known."""

    project_id: int
    """Number in Label Studio."""
    options: LoopOptions
    """How its loop runs."""
    store: VolumeStore
    """The volume."""
    truth: str
    """Name of the volume's label image that holds the ground truth."""
    test_region: Roi
    """Part of the volume that no task shows: every model version is measured there."""


class SimulatedExpert:
    """Submits ground truth through Label Studio's API, as an expert would through its page.

    Parameters
    ----------
    client
        Label Studio.
    registry
        The versions that the loop makes.
    project
        What to label.
    """

    def __init__(
        self, client: LabelStudioClient, registry: "ModelRegistry", project: Project
    ) -> None:
        self._client = client
        self._registry = registry
        self._project_id = project.project_id
        self._store = project.store
        self._truth = project.truth
        self._test_region = project.test_region
        self._options = project.options

    def play(self, budget: int, plot: Path) -> None:
        """Label until `budget` tasks of the project are labelled; show and plot what is learnt.

        Parameters
        ----------
        budget
            Labelled tasks in all; those of an earlier run count.
        plot
            Where the learning curve (PNG) goes.
        """
        labelled = self._labelled()
        console.print(f"The simulated expert has labelled {labelled} of {budget} tasks.")
        while labelled < budget:
            round_size = min(self._options.retrain_every, budget - labelled)
            before = self._client.project(self._project_id)["model_version"]
            done = self._label(round_size)
            labelled += done
            console.print(f"{labelled} tasks labelled; the model learns …")
            if done == self._options.retrain_every:
                self._wait_for_version(before)
            if done < round_size:
                console.print("All tasks are labelled.")
                break
        self._show(plot)

    def _labelled(self) -> int:
        return int(self._client.project(self._project_id)["num_tasks_with_annotations"])

    def _label(self, count: int) -> int:
        """Submit ground truth for the tasks that Label Studio serves next; return how many."""
        label_map = LabelMap.from_config(self._client.project(self._project_id)["label_config"])
        for done in range(count):
            started = time.perf_counter()
            task = self._client.next_task(self._project_id)
            if task is None:
                return done
            mask = self._store.read_labels(self._truth, tile_of(task).roi)[0]
            regions = prediction_regions([mask], self._names, label_map)
            self._client.annotate(task["id"], regions, time.perf_counter() - started)
        return count

    @property
    def _names(self) -> list[str]:
        return ["background", *self._store.class_names(self._truth)]

    def _wait_for_version(self, before: str) -> None:
        """Wait until a newer version orders the queue."""
        deadline = time.monotonic() + TURN_TIMEOUT_S
        while self._client.project(self._project_id)["model_version"] == before:
            if time.monotonic() > deadline:
                raise LoopStalledError(self._project_id, TURN_TIMEOUT_S)
            time.sleep(0.5)

    def _show(self, plot: Path) -> None:
        from ml_backend.curve import learning_curve

        table = folding_table("version", "labelled tiles", "IoU on the test half")
        labels, quality = [], []
        for card in self._registry.cards(self._project_id):
            iou = self._test_iou(card.version)
            labels.append(len(card.annotations))
            quality.append(iou)
            table.add_row(card.version, str(labels[-1]), f"{iou:.3f}")
        console.print(table)
        plot.parent.mkdir(parents=True, exist_ok=True)
        learning_curve(labels, quality, "IoU on the half that is never labelled").savefig(plot)
        console.print(f"Learning curve: {plot}", soft_wrap=True)

    def _test_iou(self, version: str) -> float:
        """Return the mean IoU of a version on the test region."""
        from ml_backend.dataset import LabelledTile
        from ml_backend.metrics import evaluate
        from ml_backend.predictor import Predictor

        network, card = self._registry.load(self._project_id, version)
        size = (TEST_TILE_PX, TEST_TILE_PX)
        tiles = [
            LabelledTile(
                self._store.read_unit(tile.roi)[0],
                self._store.read_labels(self._truth, tile.roi)[0].astype(np.uint8),
            )
            for tile in grid_tiles(self._store.name, self._test_region, size)
        ]
        return evaluate(Predictor(network), tiles, card.class_names)["mean_iou"] or 0.0
