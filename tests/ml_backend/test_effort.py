import csv
import io

import pytest

from ml_backend.effort import COLUMNS, effort_csv
from ml_backend.rounds import AnnotationRecord, Overlap


@pytest.fixture
def table(registry):
    def read(project_id=1):
        text = effort_csv(project_id, registry.cards(project_id))
        assert text.splitlines()[0] == ",".join(COLUMNS)
        return list(csv.DictReader(io.StringIO(text)))

    return read


def test_a_line_an_annotation(serve_rounds, table):
    first, second, third = serve_rounds(1)
    lines = table()
    assert [line["annotation"] for line in lines] == [str(i) for i in range(8)]
    assert [line["labels"] for line in lines] == [str(i + 1) for i in range(8)]
    assert [line["round"] for line in lines] == [first] * 4 + [second] * 2 + [third] * 2
    assert lines[4] == {
        "project": "1",
        "round": second,
        "strategy": "entropy",
        "annotation": "4",
        "task": "104",
        "labels": "5",
        "lead_time_s": "4.0",
        "class": "mitochondria",
        "predicted_px": "10",
        "annotated_px": "10",
        "kept_px": "5",
        "iou": "0.3333",
        "kept_share": "0.5",
    }


def test_what_was_not_measured_is_empty(serve, table):
    serve(1, annotations=1, round=[AnnotationRecord("0", 3, None, None)])
    [line] = table()
    assert [name for name in COLUMNS if not line[name]] == [
        "strategy",
        "lead_time_s",
        *COLUMNS[COLUMNS.index("class") :],
    ]


def test_a_line_each_class(serve, table):
    live = {"a": Overlap(4, 4, 2), "b": Overlap(0, 0, 0)}
    serve(1, annotations=1, round=[AnnotationRecord("0", 3, 1.5, "random", live)])
    a, b = table()
    assert (a["class"], b["class"]) == ("a", "b")
    assert a["annotation"] == b["annotation"]
    assert (b["predicted_px"], b["iou"], b["kept_share"]) == ("0", "", "")


def test_a_project_without_rounds_has_a_header(serve, table):
    serve(2)
    assert table(1) == []
    assert table(2) == []
