"""Annotations whose brush strokes lie about their size, or are none."""

import numpy as np
import pytest

from biosegment.errors import TaskError
from biosegment.labelstudio.payloads import annotated_masks

MASK = np.ones((32, 32), np.uint8)


@pytest.fixture
def painted(make_task, annotate):
    return annotate(make_task(1), 5, MASK)


def spoil_header(rle, length):
    return [*length.to_bytes(4), *rle[4:]]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda region: region | {"original_width": 2**20, "original_height": 2**20},
        lambda region: region | {"original_width": -32},
        lambda region: region | {"original_width": "many"},
        lambda region: region | {"item_index": 10**9},
        lambda region: region | {"item_index": -1},
        lambda region: region | {"value": None},
        lambda region: region | {"value": region["value"] | {"rle": "AAAA"}},
        lambda region: region | {"value": region["value"] | {"rle": [10**30]}},
        lambda region: region | {"value": region["value"] | {"rle": []}},
        lambda region: region | {"value": region["value"] | {"rle": [255] * 10_000}},
        lambda region: (
            region
            | {"value": region["value"] | {"rle": spoil_header(region["value"]["rle"], 2**32 - 1)}}
        ),
        lambda region: (
            region | {"value": region["value"] | {"rle": region["value"]["rle"][:8] * 1000}}
        ),
        lambda region: region | {"value": region["value"] | {"brushlabels": []}},
        lambda region: region | {"value": region["value"] | {"brushlabels": ["../../etc"]}},
    ],
)
def test_a_stroke_that_lies_is_one_clear_error(painted, label_map, spoil):
    (annotation,) = painted["annotations"]
    annotation["result"] = [spoil(region) for region in annotation["result"]]
    with pytest.raises(TaskError, match=r"^Task 1 cannot be used: annotation 5 is not usable"):
        annotated_masks(painted, label_map)
