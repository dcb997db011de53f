"""One turn of the loop: train on what is annotated, rank what is not, hand over the queue.

A turn reads everything from Label Studio and the model registry when it runs. So it may come late,
twice, or after a crash in the middle of another: what is already done is not done again.
"""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import cast

from biosegment.errors import LabelStudioError, ModelDamagedError, ModelNotFoundError
from biosegment.labels import LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import Json, project_state
from biosegment.progress import Report
from biosegment.settings import LoopOptions, Settings
from ml_backend.annotated_pool import annotated_pool, submitted
from ml_backend.hardware import on_free_cores
from ml_backend.live_quality import live_qualities
from ml_backend.model_card import ModelCard
from ml_backend.model_registry import ModelRegistry
from ml_backend.pixels import TaskImages
from ml_backend.predictions import Model
from ml_backend.prequential import compared, new_annotations
from ml_backend.queue_names import outdated, queue_name
from ml_backend.ranking import rank
from ml_backend.training import Parent, TrainingSpec, train
from ml_backend.training_logs import TrainingLogs
from ml_backend.tuning_data import TuningData

logger = logging.getLogger(__name__)


class Loop:
    """Turns the loop of any project of one Label Studio."""

    def __init__(self, settings: Settings, client: LabelStudioClient) -> None:
        self._client = client
        self._images = TaskImages(settings, self._client)
        self._registry = ModelRegistry.of(settings)
        self._data_root = settings.data_root

    def turn(self, project_id: int, *, force: bool, report: Report) -> Json:
        """Train if enough annotations are new, then publish what is not published yet.

        Parameters
        ----------
        project_id
            Number of the project in Label Studio.
        force
            Train however few annotations are new.
        report
            Told of stages and progress.

        Returns
        -------
        dict
            The state of the project (`project_state`) as this turn found it, but with the queue
            that serves now for its model version, and the ``strategy`` that ranks. Empty when the
            project was deleted.
        """
        try:
            return self._turn(project_id, report, force=force)
        except LabelStudioError:
            if self._client.has_project(project_id):
                raise
            logger.info("project %d was deleted: its turn ends", project_id)
            return {}

    def _turn(self, project_id: int, report: Report, *, force: bool) -> Json:
        # Before anything is trained: another machine may have done it.
        self._registry.exchange(project_id)
        project = self._client.project(project_id)
        state = project_state(project, self._client.last_change(project_id))
        options = self._client.loop_options(project_id)
        if options is None:
            logger.info("project %d is not connected to this backend", project_id)
            return state
        state["strategy"] = options.strategy
        label_map = LabelMap.from_config(project["label_config"])
        tasks = self._client.annotated_tasks(project_id, partial(report, "reading annotations"))
        if force or self._changes(project_id, tasks) >= options.retrain_every:
            self.learn(project_id, tasks, label_map, options, report, force=force)
        version = self._registry.current(project_id)
        if version is not None:
            state["model_version"] = self._publish(project_id, version, options, report)
        return state

    def _changes(self, project_id: int, tasks: Sequence[Json]) -> int:
        """Count the annotations that the serving version has not seen as they are now."""
        version = self._registry.current(project_id)
        seen: dict[str, str] = {}
        if version is not None:
            card = self._registry.card(project_id, version)
            seen = {**card.annotations, **card.left_out}
        return sum(
            seen.get(str(annotation["id"])) != annotation["updated_at"]
            for task in tasks
            for annotation in submitted(task)
        )

    def learn(
        self,
        project_id: int,
        tasks: Sequence[Json],
        label_map: LabelMap,
        options: LoopOptions,
        report: Report,
        *,
        force: bool = False,
    ) -> None:
        """Train a version on all annotated tasks, those new to its parent tested first.

        Parameters
        ----------
        project_id
            Number of the project.
        tasks
            With their ``annotations``.
        label_map
            Of the project's labelling configuration.
        options
            How long to train, and the strategy that the version will rank by.
        report
            Told of stages and progress.
        force
            Raise `NothingToTrainOnError` when nothing can be learned from, instead of waiting.
        """
        report = on_free_cores(report)
        pool = annotated_pool(tasks, self._images, label_map, partial(report, "reading images"))
        if not force and not any(tile.has_known for tile in pool.tiles):
            logger.info("project %d: no annotation can be learned from yet; waiting", project_id)
            return
        parent_version, parent, grandparent = self._ancestors(project_id)
        # Test, then train: afterwards these annotations are no test any more.
        new = new_annotations(pool, label_map, self._registry.cards(project_id))
        records = compared(new, label_map.names, parent, grandparent)
        version = self._registry.next_version(project_id)
        logs = TrainingLogs(self._data_root, project_id)
        trained = train(
            pool.tiles,
            [],
            self._spec(project_id, label_map, options, seed=len(pool.annotations)),
            parent,
            logs.run(version),
            partial(report, "training"),
        )
        card = ModelCard.of(
            trained,
            strategy=options.strategy,
            annotations=pool.annotations,
            left_out=pool.left_out,
            lead_time_s=pool.lead_time_s,
            parent=parent_version,
            round=records,
        )
        self._registry.save(project_id, version, trained.network, card)
        self._registry.promote(project_id, version)
        logger.info("project %d: version %s is serving", project_id, version)
        qualities = live_qualities(self._registry.cards(project_id))
        if qualities and qualities[-1].version == parent_version:
            logs.add_quality(qualities[-1])
        logs.prune()

    def tuning_data(self, project_id: int, report: Report) -> TuningData:
        """Return the annotated tiles of a project task by task, and the recipe in use.

        Parameters
        ----------
        project_id
            Number of the project in Label Studio.
        report
            Told of stages and progress.
        """
        label_map = LabelMap.from_config(self._client.project(project_id)["label_config"])
        options = self._client.loop_options(project_id) or LoopOptions()
        tasks = self._client.annotated_tasks(project_id, partial(report, "reading annotations"))
        pool = annotated_pool(tasks, self._images, label_map, partial(report, "reading images"))
        known = [[tile for tile in task.tiles.values() if tile.has_known] for task in pool.tasks]
        spec = self._spec(project_id, label_map, options)
        return TuningData(spec, [tiles for tiles in known if tiles], pool.annotations)

    def _spec(
        self, project_id: int, label_map: LabelMap, options: LoopOptions, seed: int = 0
    ) -> TrainingSpec:
        """Return the recipe of a project: its own one, if there is one, or the default."""
        spec = TrainingSpec(classes=label_map.names, effort=options.training_effort, seed=seed)
        recipe = self._registry.recipe(project_id)
        return recipe.applied_to(spec) if recipe else spec

    def _ancestors(self, project_id: int) -> tuple[str | None, Parent | None, Parent | None]:
        """Return the version to fine-tune, its network, and that of the one before.

        None where there is none, or it is damaged.
        """
        version = self._registry.current(project_id)
        if version is None:
            return None, None, None
        try:
            network, card = self._registry.load(project_id, version)
        except ModelDamagedError as exc:
            logger.warning("project %d starts afresh: %s", project_id, exc)
            return None, None, None
        grandparent = None if card.parent is None else self._grandparent(project_id, card.parent)
        return version, Parent(network, card.class_names, card.labels), grandparent

    def _grandparent(self, project_id: int, version: str) -> Parent | None:
        try:
            network, card = self._registry.load(project_id, version)
        except (ModelDamagedError, ModelNotFoundError) as exc:
            logger.warning("project %d: the last round's gain is not measured: %s", project_id, exc)
            return None
        return Parent(network, card.class_names)

    def _publish(
        self, project_id: int, version: str, options: LoopOptions, report: Report
    ) -> str | None:
        """Give every unlabelled task a prediction of `version`, then let them order the queue.

        Those of other strategies and of versions before stay, for whoever has one open. Returns
        the model version that Label Studio then has for the project.
        """
        queue = queue_name(version, options.strategy)
        while True:
            # Read here: its labels may have been edited during a long training.
            project = self._client.project(project_id)
            if not self._complete(project, version, options, report):
                # Label Studio takes no version without predictions; there is no queue to order.
                logger.info("project %d: all is labelled", project_id)
                return cast("str | None", project["model_version"])
            if project["model_version"] == queue:
                break
            if self._client.project(project_id)["label_config"] == project["label_config"]:
                self._registry.set_ranked_by(project_id, version, options.strategy)
                self._client.set_model_version(project_id, queue)
                logger.info("project %d: the queue is %s", project_id, queue)
                break
            # Edited meanwhile: the masks may name labels that are no more. Nobody has one open yet.
            self._client.delete_predictions(project_id, queue)
        report("cleaning up", 0, 1)
        queues = self._client.model_versions(project_id)
        cards = self._registry.cards(project_id)
        for old in outdated(queues, version, cards, datetime.now(UTC)):
            self._client.delete_predictions(project_id, old)
        return queue

    def _complete(self, project: Json, version: str, options: LoopOptions, report: Report) -> bool:
        """Give a prediction of `version` to every unlabelled task that has none.

        Returns whether there are predictions of it, of whatever task.
        """
        project_id, queue = project["id"], queue_name(version, options.strategy)
        # Most turns find an annotation too few for a training: they need not read all tasks.
        if not self._client.awaits_predictions(project_id, queue):
            return queue in self._client.model_versions(project_id)
        tasks = self._client.tasks(project_id, partial(report, "reading tasks"))
        pool = [task for task in tasks if not task["is_labeled"]]
        labelled = [task for task in tasks if task["is_labeled"]]
        predicted = self._client.predicted_tasks(project_id, queue)
        missing = {task["id"] for task in pool} - predicted
        if not missing:
            return bool(predicted)
        report = on_free_cores(report)
        model = Model(self._registry, project_id, version)
        label_map = LabelMap.from_config(project["label_config"])
        ranked = rank(pool, labelled, model, self._images, label_map, options, report)
        predictions = [each for each in ranked if each["task"] in missing]
        self._client.import_predictions(project_id, predictions, partial(report, "publishing"))
        return True
