import json
from dataclasses import asdict

import numpy as np
import pytest

from biosegment.labels import UNKNOWN
from ml_backend.rounds import AnnotationRecord, Overlap, overlaps

NAMES = ("background", "a", "b")


def mask(*rows):
    return np.array(rows, np.uint8)


def test_pixels_of_every_class():
    predicted = mask([1, 1, 2, 0], [1, 0, 2, 2])
    annotated = mask([1, 1, 1, 0], [0, 1, 2, 0])
    assert overlaps(predicted, NAMES, annotated, NAMES) == {
        "a": Overlap(predicted=3, annotated=4, kept=2),
        "b": Overlap(predicted=3, annotated=1, kept=1),
    }


def test_unknown_pixels_count_nowhere():
    predicted = mask([1, 1, 1, 0])
    annotated = mask([1, UNKNOWN, UNKNOWN, 0])
    assert overlaps(predicted, NAMES, annotated, NAMES)["a"] == Overlap(1, 1, 1)


def test_classes_are_matched_by_name():
    predicted = mask([1, 1, 2, 3])
    annotated = mask([2, 0, 1, 3])
    found = overlaps(predicted, ("background", "b", "a", "gone"), annotated, (*NAMES, "new"))
    assert found == {"a": Overlap(1, 1, 1), "b": Overlap(2, 1, 1), "new": Overlap(0, 1, 0)}


@pytest.mark.parametrize(
    ("live", "before"),
    [(None, None), ({"a": Overlap(3, 2, 1)}, None), ({}, {"a": Overlap(0, 0, 0)})],
)
def test_a_record_survives_json(live, before):
    record = AnnotationRecord("17", 4, None, None, live, before)
    assert AnnotationRecord.from_json(json.loads(json.dumps(asdict(record)))) == record
