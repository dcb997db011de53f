"""Label Studio's ML backend contract: the only reader of request bodies.

References
----------
Requests as Label Studio 1.23 sends them: ``label_studio/ml/api_connector.py`` and
``label_studio/webhooks`` of its source; https://labelstud.io/guide/ml_create.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from biosegment.errors import ContractError
from biosegment.labelstudio.payloads import Json

MAX_DIGITS: Final = 18
"""Of a project number: what a database's integers hold."""


class WebhookAction(StrEnum):
    """What a webhook tells of that matters to the loop; all else is `OTHER`."""

    START_TRAINING = "START_TRAINING"
    """The button on the Model page: train now, however few annotations are new."""
    ANNOTATION_CREATED = "ANNOTATION_CREATED"
    """An expert submitted or skipped a task."""
    ANNOTATIONS_CREATED = "ANNOTATIONS_CREATED"
    """Several annotations were made at once, by an import or a copy of predictions."""
    ANNOTATION_UPDATED = "ANNOTATION_UPDATED"
    """An annotation was changed."""
    ANNOTATIONS_DELETED = "ANNOTATIONS_DELETED"
    """One or more annotations are gone."""
    TASKS_CREATED = "TASKS_CREATED"
    """The pool grew: new tasks want a rank."""
    PROJECT_UPDATED = "PROJECT_UPDATED"
    """The labelling configuration or another setting changed."""
    OTHER = ""
    """Nothing to do."""

    @classmethod
    def _missing_(cls, value: object) -> "WebhookAction":
        return cls.OTHER


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """Body of ``POST /predict``."""

    project_id: int
    """Number of the project."""
    tasks: list[Json]
    """Tasks with ``id`` and ``data``."""
    label_config: str
    """The project's labelling configuration."""

    @classmethod
    def parse(cls, body: object) -> "PredictRequest":
        """Read a body; raises ContractError when it is not one."""
        fields = mapping(body)
        tasks = fields.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise ContractError("it needs a list of tasks")
        label_config = fields.get("label_config")
        if not isinstance(label_config, str):
            raise ContractError("it needs the label_config of the project")
        return cls(project_id(fields), tasks, label_config)


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """Body of ``POST /webhook``."""

    action: WebhookAction
    """What happened."""
    project_id: int | None
    """Number of the project; None where the event belongs to none."""

    @classmethod
    def parse(cls, body: object) -> "WebhookRequest":
        """Read a body; raises ContractError when it is not one."""
        fields = mapping(body)
        action = WebhookAction(str(fields.get("action")))
        if action is WebhookAction.OTHER:
            return cls(action, None)
        return cls(action, project_id(fields))


def mapping(body: object) -> Mapping[str, Any]:
    """Return a body that is a JSON object; raises ContractError for anything else."""
    if not isinstance(body, Mapping):
        raise ContractError("it needs a JSON object")
    return body


def project_id(fields: Mapping[str, Any]) -> int:
    """Return the project number in ``"ID.TIMESTAMP"``, ``{"id": ID}`` or a plain number.

    Raises
    ------
    ContractError
        When there is none.
    """
    value = fields.get("project")
    if isinstance(value, Mapping):
        value = value.get("id")
    number = str(value).partition(".")[0]
    if not (number.isascii() and number.isdigit() and len(number) <= MAX_DIGITS):
        raise ContractError("it does not name its project")
    return int(number)
