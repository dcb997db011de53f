"""The web application: assembled here, with the one table from errors to HTTP statuses."""

import hmac
import logging
import time
from typing import Final

from flask import Flask, Response, abort, g, jsonify, request
from prometheus_client import CollectorRegistry
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
from ml_backend import routes, uncertainty_routes
from ml_backend.jobs import JobQueue, connect
from ml_backend.metrics_page import RequestMetrics, StateCollector
from ml_backend.model_registry import ModelRegistry
from ml_backend.pixels import TaskImages
from ml_backend.predictions import PredictionService

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
QUEUE_TIMEOUT_S: Final = 0.5
"""Label Studio gives a webhook one second in all."""


def create_app(settings: Settings) -> Flask:
    """Return the ML backend of one installation.

    Nothing is contacted before the first request: Label Studio and Redis may start later.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    client = LabelStudioClient(settings)
    registry = ModelRegistry(settings.data_root)
    jobs = JobQueue(connect(settings, QUEUE_TIMEOUT_S))
    collectors = CollectorRegistry()
    collectors.register(StateCollector(registry, jobs))
    requests = RequestMetrics(collectors)
    app.extensions["biosegment"] = routes.Services(
        settings=settings,
        client=client,
        registry=registry,
        jobs=jobs,
        predictions=PredictionService(registry, TaskImages(settings, client)),
        collectors=collectors,
    )
    app.register_blueprint(routes.contract_api)
    app.register_blueprint(routes.pages)
    app.register_blueprint(uncertainty_routes.pages)
    app.before_request(_start_clock)
    app.before_request(lambda: _authorise(settings))
    app.before_request(_refuse_other_sites)
    app.after_request(requests.observe)
    app.register_error_handler(BioSegmentError, _explain)
    app.register_error_handler(Exception, _hide)
    return app


def _start_clock() -> None:
    g.started = time.perf_counter()


def _authorise(settings: Settings) -> Response | None:
    """Refuse whoever does not know the credentials; /health tells nothing and stays open."""
    if not settings.basic_auth_user or request.endpoint == "contract_api.health":
        return None
    given = request.authorization
    known = given is not None and given.type == "basic"
    name = (given.username or "") if known and given else ""
    password = (given.password or "") if known and given else ""
    right_name = hmac.compare_digest(name.encode(), settings.basic_auth_user.encode())
    right_password = hmac.compare_digest(password.encode(), settings.basic_auth_pass.encode())
    if right_name and right_password:
        return None
    answer = jsonify(error="This backend asks for the user and password it was started with.")
    answer.status_code = 401
    answer.headers["WWW-Authenticate"] = 'Basic realm="BioSegment"'
    return answer


def _refuse_other_sites() -> None:
    """Refuse a change that a page of another site asks for, with the user's own credentials.

    Browsers say where a request comes from: all of today's in Sec-Fetch-Site if the backend has an
    encrypted or local address, and in Origin otherwise. Label Studio and other programs say
    nothing.

    References
    ----------
    https://cheatsheetseries.owasp.org/cheatsheets/Cross-Site_Request_Forgery_Prevention_Cheat_Sheet.html
    and https://www.w3.org/TR/fetch-metadata/.
    """
    if request.method in {"GET", "HEAD", "OPTIONS"}:
        return
    site = request.headers.get("Sec-Fetch-Site")
    if site is None:
        origin = request.headers.get("Origin")
        ours = origin is None or origin.partition("://")[2] == request.host
    else:
        ours = site in {"same-origin", "none"}
    if not ours:
        abort(403, "Another site asked for this; use this backend's own pages.")


def _explain(error: BioSegmentError) -> tuple[Response, int]:
    status = next((code for kind, code in STATUS.items() if isinstance(error, kind)), 500)
    logger.warning("%s %s: %d, %s", request.method, request.path, status, error)
    return jsonify(error=str(error)), status


def _hide(error: Exception) -> BaseResponse | tuple[Response, int]:
    if isinstance(error, HTTPException):
        return jsonify(error=error.description), error.code or 500
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return jsonify(error="The backend failed; its log says why."), 500
