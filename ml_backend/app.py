"""The web application: assembled here, with the one table from errors to HTTP statuses."""

import logging
import time
from typing import Any, Final

from flask import Flask, Response, g, jsonify, request
from flask.json.provider import DefaultJSONProvider
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as BaseResponse

from biosegment.errors import (
    BioSegmentError,
    ContractError,
    LabelConfigError,
    LabelsNotFoundError,
    LabelStudioError,
    LinkBrokenError,
    QueueError,
    RegionError,
    SettingsError,
    TaskError,
    UncertaintyError,
    VolumeNotFoundError,
)
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.settings import Settings
from ml_backend import access, routes, uncertainty_routes
from ml_backend.jobs import JobQueue, connect
from ml_backend.metrics_page import Metrics
from ml_backend.model_registry import ModelRegistry
from ml_backend.pixels import TaskImages
from ml_backend.predictions import PredictionService
from ml_backend.project_facts import ProjectFacts

logger = logging.getLogger(__name__)

STATUS: Final[dict[type[BioSegmentError], int]] = {
    ContractError: 400,
    VolumeNotFoundError: 404,
    LinkBrokenError: 404,
    LabelsNotFoundError: 404,
    UncertaintyError: 404,
    RegionError: 404,
    LabelConfigError: 422,
    TaskError: 422,
    SettingsError: 422,
    LabelStudioError: 502,
    QueueError: 503,
}
"""HTTP status of each error; any other is the server's fault (500)."""
MAX_BODY_BYTES: Final = 64 * 2**20
MAX_WEBHOOK_BYTES: Final = 8 * 2**20
"""Of these bodies two fields are read. One that is refused is lost without harm: a worker finds the
annotation by itself."""
QUEUE_TIMEOUT_S: Final = 0.5
"""Label Studio gives a webhook one second in all."""


def create_app(settings: Settings) -> Flask:
    """Return the ML backend of one installation.

    Nothing is contacted before the first request: Label Studio and Redis may start later.

    Raises
    ------
    SettingsError
        When others can reach the backend, and nothing keeps them out (`access`).
    """
    access.check_credentials(settings)
    app = Flask(__name__)
    app.json = _Json(app)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    client = LabelStudioClient(settings)
    registry = ModelRegistry.of(settings)
    jobs = JobQueue(connect(settings, QUEUE_TIMEOUT_S))
    metrics = Metrics(registry, jobs, settings.data_root)
    app.extensions["biosegment"] = routes.Services(
        settings=settings,
        client=client,
        registry=registry,
        jobs=jobs,
        predictions=PredictionService(registry, TaskImages(settings, client)),
        facts=ProjectFacts(client),
        metrics=metrics,
    )
    app.register_blueprint(routes.contract_api)
    app.register_blueprint(routes.pages)
    app.register_blueprint(uncertainty_routes.pages)
    app.before_request(_start_clock)
    access.guard(app, settings)
    app.before_request(_limit_webhooks)
    app.after_request(metrics.observe)
    app.register_error_handler(BioSegmentError, _explain)
    app.register_error_handler(Exception, _hide)
    return app


def _start_clock() -> None:
    g.started = time.perf_counter()


def _limit_webhooks() -> None:
    if request.endpoint == "contract_api.webhook":
        request.max_content_length = MAX_WEBHOOK_BYTES


class _Json(DefaultJSONProvider):
    """JSON in which too many brackets are as wrong as too few."""

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:  # noqa: ANN401
        """Return what a text holds; raises ValueError when it is not JSON."""
        try:
            return super().loads(s, **kwargs)
        except RecursionError as exc:
            raise ValueError("it is nested too deeply") from exc


def _explain(error: BioSegmentError) -> tuple[Response, int]:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    g.error = type(error).__name__
    logger.warning("%s %s: %d, %s", request.method, request.path, status, error)
    return jsonify(error=str(error)), status


def _hide(error: Exception) -> BaseResponse | tuple[Response, int]:
    g.error = type(error).__name__
    if isinstance(error, HTTPException):
        answer = error.get_response()
        answer.data = jsonify(error=error.description).data
        answer.content_type = "application/json"
        return answer
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return jsonify(error="The backend failed; its log says why."), 500
