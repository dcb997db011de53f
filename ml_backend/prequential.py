"""Test, then train: new annotations against the predictions of versions that know nothing of them.

Every annotation is learned from. Before it is, it tells how well the version predicts that served
while it was made [1]: no label is spent on measuring alone.

References
----------
[1] A. P. Dawid: Present position and potential developments: some personal views: statistical
theory: the prequential approach. J. R. Statist. Soc. A 147(2), 1984; doi 10.2307/2981683
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from biosegment.labels import LabelMap
from biosegment.labelstudio.payloads import Json, annotated_masks, tile_of
from ml_backend.annotated_pool import AnnotatedPool, AnnotatedTask, submitted
from ml_backend.dataset import LabelledTile
from ml_backend.model_card import ModelCard
from ml_backend.predictions import MIN_AREA_PX
from ml_backend.predictor import Predictor, class_mask
from ml_backend.rounds import AnnotationRecord, Overlaps, overlaps
from ml_backend.training import Parent


@dataclass(frozen=True, slots=True, eq=False)
class NewAnnotation:
    """An annotation that no version has learned from."""

    record: AnnotationRecord
    """Not compared with any prediction yet."""
    test: LabelledTile | None
    """What it says of the tile that its task asks for; None when a version knows that tile."""


def new_annotations(
    pool: AnnotatedPool, label_map: LabelMap, cards: Sequence[ModelCard]
) -> list[NewAnnotation]:
    """Return the annotations that no version was trained on, in the order they were made.

    An annotation that was corrected later is not new. It is no test when its tile was trained on
    before: as another annotator's, as one that was deleted since, or as a neighbour's slice. Nor
    do the neighbouring slices of a task count: what the model proposes there stays in the
    annotation even when nobody looks.

    Parameters
    ----------
    pool : AnnotatedPool
    label_map : LabelMap
        Of the project's labelling configuration.
    cards : sequence of ModelCard
        Of all versions, oldest first.
    """
    known = {annotation for card in cards for annotation in card.annotations}
    known_tasks = {record.task for card in cards for record in card.round}
    old = [each for each in pool.tasks if not known.isdisjoint(_ids(each.task))]
    known_tasks |= {each.task["id"] for each in old}
    known_tiles = {tile for each in old for tile in each.tiles}
    found = []
    for each in pool.tasks:
        is_test = each.task["id"] not in known_tasks and tile_of(each.task) not in known_tiles
        for annotation in submitted(each.task):
            if str(annotation["id"]) not in known:
                record = _record(each.task, annotation, cards)
                test = _target(each, annotation, label_map) if is_test else None
                found.append(NewAnnotation(record, test))
    return sorted(found, key=lambda new: int(new.record.annotation))


def _ids(task: Json) -> list[str]:
    return [str(annotation["id"]) for annotation in submitted(task)]


def _record(task: Json, annotation: Json, cards: Sequence[ModelCard]) -> AnnotationRecord:
    lead_time_s = annotation.get("lead_time")
    opened = datetime.fromisoformat(annotation["created_at"]) - timedelta(seconds=lead_time_s or 0)
    served = [card for card in cards if datetime.fromisoformat(card.created) <= opened]
    return AnnotationRecord(
        annotation=str(annotation["id"]),
        task=task["id"],
        lead_time_s=lead_time_s,
        strategy=served[-1].strategy if served else None,
    )


def _target(each: AnnotatedTask, annotation: Json, label_map: LabelMap) -> LabelledTile | None:
    target = tile_of(each.task)
    mask = annotated_masks(each.task | {"annotations": [annotation]}, label_map).get(target)
    return None if mask is None else LabelledTile(each.tiles[target].image, mask)


def compared(
    new: Sequence[NewAnnotation],
    names: Sequence[str],
    parent: Parent | None,
    grandparent: Parent | None,
) -> list[AnnotationRecord]:
    """Return the records of new annotations, compared with the masks that two versions predict.

    The masks are those that an expert is shown.

    Parameters
    ----------
    new : sequence of NewAnnotation
    names : sequence of str
        Classes of the project, background first.
    parent, grandparent : Parent, optional
        The version that served, and the one that it was trained from.
    """
    live = _overlaps(parent, new, names)
    before = _overlaps(grandparent, new, names)
    return [
        replace(each.record, live=now, before=then)
        for each, now, then in zip(new, live, before, strict=True)
    ]


def _overlaps(
    model: Parent | None, new: Sequence[NewAnnotation], names: Sequence[str]
) -> list[Overlaps | None]:
    if model is None:
        return [None] * len(new)
    images = (each.test.image for each in new if each.test is not None)
    probs = Predictor(model.network).probabilities(images)
    return [
        None
        if each.test is None
        else overlaps(class_mask(next(probs), MIN_AREA_PX), model.classes, each.test.mask, names)
        for each in new
    ]
