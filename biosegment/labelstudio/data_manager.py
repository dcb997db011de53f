"""Queries and tabs of Label Studio's Data Manager."""

from collections.abc import Mapping
from typing import Any, Final, TypeAlias

from biosegment.labelstudio.payloads import Json

DataRanges: TypeAlias = Mapping[str, str | int | tuple[int, int]]
"""Keys of a task's data, and a value of each or the first and the last of a range."""
RANK_VIEW_TITLE: Final = "By rank"
ALL_VIEW_TITLE: Final = "All tasks"


def _total_annotations(operator: str) -> Json:
    condition = {"operator": operator, "type": "Number", "value": 0}
    filtered = {"filter": "filter:tasks:total_annotations"} | condition
    return {"conjunction": "and", "items": [filtered]}


UNLABELLED: Final[Json] = _total_annotations("equal")
"""Data Manager filter: tasks without an annotation."""
LABELLED: Final[Json] = _total_annotations("greater")
"""Data Manager filter: tasks with an annotation that was submitted, not skipped."""
_TELLS_NOTHING: Final = (
    "inner_id",
    "cancelled_annotations",
    "total_predictions",
    "annotations_results",
    "annotations_ids",
    "predictions_results",
    "predictions_model_versions",
    "file_upload",
    "storage_filename",
    "created_at",
    "updated_at",
    "updated_by",
    "draft_exists",
)
HIDDEN_COLUMNS: Final[Json] = {
    place: [f"tasks:{column}" for column in _TELLS_NOTHING] for place in ("explore", "labeling")
}
"""Columns of the Data Manager that tell an expert nothing."""


def after(task_id: int, filters: Json | None) -> Json:
    """Return the Data Manager filter for tasks of higher numbers that also pass another filter."""
    condition = {"operator": "greater", "type": "Number", "value": task_id}
    items = [{"filter": "filter:tasks:id"} | condition]
    return {"conjunction": "and", "items": items + (filters["items"] if filters else [])}


def predicted_by(version: str) -> Json:
    """Return the Data Manager filter for tasks that have a prediction of a version.

    Also for those of a version whose name has this one in it. The column that lists the versions
    of a task would tell the same, but was seen to take twenty times as long for 25 versions.
    """
    condition = {"operator": "contains", "type": "List", "value": [version]}
    filtered = {"filter": "filter:tasks:predictions_model_versions"} | condition
    return {"conjunction": "and", "items": [filtered]}


def data_filter(data: DataRanges) -> Json:
    """Return the Data Manager filter for tasks whose data have such values."""
    items: list[Json] = []
    for key, wanted in data.items():
        condition: Json
        match wanted:
            case str():
                condition = {"operator": "equal", "type": "String", "value": wanted}
            case int():
                condition = {"operator": "equal", "type": "Number", "value": wanted}
            case low, high:
                value = {"min": low, "max": high}
                condition = {"operator": "in", "type": "Number", "value": value}
        items.append({"filter": f"filter:tasks:data.{key}"} | condition)
    return {"conjunction": "and", "items": items}


def view_title(view: Any) -> str | None:  # noqa: ANN401
    """Return the title of a tab, as the SDK gives it; None if it has none."""
    data = view.data
    title = data.get("title") if isinstance(data, Mapping) else getattr(data, "title", None)
    return None if title is None else str(title)
