"""The effort of annotation as a table: what each label cost, and how much of the mask was kept."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

from ml_backend.model_card import ModelCard
from ml_backend.rounds import AnnotationRecord, Overlap

COLUMNS: Final = (
    "project",
    "round",
    "strategy",
    "annotation",
    "task",
    "labels",
    "lead_time_s",
    "class",
    "predicted_px",
    "annotated_px",
    "kept_px",
    "iou",
    "kept_share",
)


def effort_csv(project_id: int, cards: Sequence[ModelCard]) -> str:
    """Return a line an annotation and class, of all versions of a project (CSV, with a header).

    An annotation that was compared with no prediction has one line, without a class and counts.
    What the columns hold is told in ``docs/active-learning.md``.
    """
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for card in cards:
        known = len(card.annotations) - len(card.round)
        for labels, record in enumerate(card.round, start=known + 1):
            begin = (project_id, card.version, record.strategy, record.annotation, record.task)
            for counts in _counts(record):
                table.writerow((*begin, labels, record.lead_time_s, *counts))
    return text.getvalue()


def _counts(record: AnnotationRecord) -> Iterator[tuple[object, ...]]:
    if not record.live:
        yield (None,) * 6
        return
    for name, overlap in record.live.items():
        yield name, overlap.predicted, overlap.annotated, overlap.kept, *_shares(overlap)


def _shares(overlap: Overlap) -> tuple[float | None, float | None]:
    """Return IoU and the kept part of the prediction; None for nothing of nothing."""
    either = overlap.predicted + overlap.annotated - overlap.kept
    return (
        round(overlap.kept / either, 4) if either else None,
        round(overlap.kept / overlap.predicted, 4) if overlap.predicted else None,
    )
