"""The routes: Label Studio's contract, and the pages for people and for Prometheus."""

import logging
from dataclasses import asdict, dataclass
from typing import cast

from flask import (
    Blueprint,
    Response,
    abort,
    current_app,
    jsonify,
    redirect,
    render_template,
    request,
    url_for,
)
from werkzeug.wrappers import Response as BaseResponse

from biosegment.errors import (
    ContractError,
    LabelStudioError,
    LinkBrokenError,
    SettingsError,
    UnknownStrategyError,
    VolumeNotFoundError,
)
from biosegment.labels import LabelMap
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.connection import is_answer
from biosegment.log import set_ids
from biosegment.settings import LoopOptions, Settings
from biosegment.store import VolumeStore, volume_names
from ml_backend.contract import (
    PredictRequest,
    WebhookAction,
    WebhookRequest,
    mapping,
    project_id,
)
from ml_backend.curve import curve_svg
from ml_backend.effort import effort_csv
from ml_backend.jobs import JobQueue
from ml_backend.metrics_page import Metrics
from ml_backend.model_registry import ModelRegistry
from ml_backend.predictions import PredictionService
from ml_backend.project_facts import ProjectFacts
from ml_backend.segmentation import SegmentationPlan, check_axes, labels_name
from ml_backend.segmentation_job import Order
from ml_backend.status import failures, overview
from ml_backend.strategies import descriptions, strategy_named
from ml_backend.uncertainty import uncertain_volumes

logger = logging.getLogger(__name__)

contract_api = Blueprint("contract_api", __name__)
pages = Blueprint("pages", __name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What the views work with."""

    settings: Settings
    client: LabelStudioClient
    registry: ModelRegistry
    jobs: JobQueue
    predictions: PredictionService
    facts: ProjectFacts
    metrics: Metrics


def services() -> Services:
    """Return the services of the application that answers this request."""
    return cast("Services", current_app.extensions["biosegment"])


@contract_api.before_app_request
def name_the_request() -> None:
    """Let what is logged from now on tell the project of this request, and nothing of the last."""
    set_ids(project=(request.view_args or {}).get("number"))


@contract_api.get("/health")
def health() -> Response:
    """Say that the process is up."""
    return jsonify(status="UP", model_class="BioSegment")


@contract_api.post("/setup")
def setup() -> Response:
    """Tell Label Studio the queue that serves a project, which it takes for a model version."""
    fields = mapping(request.get_json(silent=True))
    number = project_id(fields)
    set_ids(project=number)
    LabelMap.from_config(str(fields.get("schema")))
    return jsonify(model_version=services().predictions.queue(number))


@contract_api.post("/predict")
def predict() -> Response:
    """Predict brush masks for the tasks that Label Studio sends."""
    asked = PredictRequest.parse(request.get_json(silent=True))
    set_ids(project=asked.project_id)
    label_map = LabelMap.from_config(asked.label_config)
    results = services().predictions.predict(asked.project_id, asked.tasks, label_map)
    services().metrics.count_predictions(results)
    return jsonify(results=results)


@contract_api.post("/webhook")
def webhook() -> tuple[Response, int]:
    """Ask for a turn of the loop, and answer at once."""
    event = WebhookRequest.parse(request.get_json(silent=True))
    if event.project_id is None:
        return jsonify(status="ignored"), 200
    force = event.action is WebhookAction.START_TRAINING
    set_ids(project=event.project_id)
    job_id = services().jobs.request_turn(event.project_id, force=force)
    set_ids(project=event.project_id, job=job_id)
    logger.info("%s: a turn is due", event.action.value)
    return jsonify(status="queued", job=job_id), 201


@contract_api.route("/versions", methods=["GET", "POST"])
def versions() -> Response:
    """List the versions of a project, or of all when none is named."""
    registry = services().registry
    fields = mapping(request.get_json(silent=True) or request.args)
    asked = [project_id(fields)] if fields.get("project") else registry.projects()
    found = [card.version for each in asked for card in registry.cards(each)]
    return jsonify(versions=found)


@contract_api.post("/validate")
def validate() -> Response:
    """Accept a labelling configuration that this backend can segment; 422 says why not."""
    fields = mapping(request.get_json(silent=True))
    label_map = LabelMap.from_config(str(fields.get("config")))
    return jsonify(status="ok", labels=label_map.names[1:])


@contract_api.post("/job_status")
def job_status() -> Response:
    """Tell how a job is doing."""
    job_id = mapping(request.get_json(silent=True)).get("job")
    job = services().jobs.job(str(job_id))
    if job is None:
        raise ContractError(f"there is no job {job_id!r}, or it was long ago")
    times = {
        name: getattr(job, name) for name in ("created_at", "enqueued_at", "started_at", "ended_at")
    }
    return jsonify(
        job_status=job.get_status().value,
        progress=job.get_meta(),
        **{name: moment and moment.isoformat() for name, moment in times.items()},
    )


@pages.get("/metrics")
def metrics() -> Response:
    """Metrics in Prometheus' text format."""
    return services().metrics.page()


@pages.get("/openapi.yaml")
def openapi() -> Response:
    """Describe all routes (OpenAPI 3.1)."""
    answer = current_app.send_static_file("openapi.yaml")
    answer.mimetype = "application/yaml"
    return answer


@pages.get("/")
def status() -> str:
    """Show every project, its model, its queue and what is running."""
    known = services()
    projects, problems = overview(known.facts, known.registry, known.jobs)
    return render_template(
        "status.html",
        projects=projects,
        problems=problems,
        url=known.settings.label_studio_page,
        uncertain=uncertain_volumes(known.settings.data_root),
        failures=failures(known.jobs),
        titles={each.project["id"]: each.project["title"] for each in projects},
    )


@pages.post("/jobs/<job_id>/retry")
def retry(job_id: str) -> BaseResponse:
    """Ask again for what a failed job was to do; what is not failed any more is left alone."""
    services().jobs.retry(job_id)
    return redirect(url_for("pages.status"), 303)


@pages.get("/projects/<int:number>/curve.svg")
def curve(number: int) -> Response:
    """Draw the learning curve of a project."""
    return Response(curve_svg(services().registry.cards(number)), mimetype="image/svg+xml")


@pages.get("/projects/<int:number>/effort.csv")
def effort(number: int) -> Response:
    """Give the annotation effort of a project as a table."""
    table = effort_csv(number, services().registry.cards(number))
    return Response(table, mimetype="text/csv")


@pages.get("/projects/<int:number>/options")
def options(number: int) -> str:
    """Show how a project's loop runs, in a form to change it."""
    return _options_page(number, _loop_options(number))


@pages.post("/projects/<int:number>/options")
def change_options(number: int) -> BaseResponse | tuple[str, int]:
    """Change how a project's loop runs, and ask for the turn that ranks its queue anew."""
    known, used = services(), _loop_options(number)
    try:
        wanted = used.updated({key: request.form.get(key) for key in ("strategy", "retrain_every")})
        strategy_named(wanted.strategy)
    except (SettingsError, UnknownStrategyError) as exc:
        return _options_page(number, used, problem=str(exc)), 422
    known.client.connect_backend(number, wanted)
    known.facts.forget(number)
    known.jobs.request_turn(number)
    return redirect(url_for("pages.status", _anchor=f"project-{number}"), 303)


@pages.get("/projects/<int:number>/segment")
def segment(number: int) -> str:
    """Show a form to have a whole volume segmented by a project's model."""
    return _segment_page(number)


@pages.post("/projects/<int:number>/segment")
def start_segmentation(number: int) -> BaseResponse | tuple[str, int]:
    """Ask for the segmentation of a volume."""
    known, form = services(), request.form
    version = known.registry.current(number) or abort(404, f"Project {number} has no model yet.")
    plan = SegmentationPlan(
        number,
        version,
        **{each: each in form for each in ("flips", "uncertainty", "three_axes")},
    )
    name = labels_name(plan)
    try:
        store = VolumeStore.open(known.settings.data_root, form.get("volume", ""))
        check_axes(store, plan)
    except (VolumeNotFoundError, LinkBrokenError, SettingsError) as exc:
        return _segment_page(number, problem=str(exc)), 422
    if name in store.label_names:
        problem = f"The volume {store.name!r} has been segmented by this model already: {name}."
        return _segment_page(number, problem=problem), 422
    known.jobs.request_segmentation(asdict(Order(store.name, name, plan)))
    return redirect(url_for("pages.status", _anchor=f"project-{number}"), 303)


def project_title(number: int) -> str:
    """Return the title of a project; 404 when there is none."""
    try:
        return str(services().client.project(number)["title"])
    except LabelStudioError as exc:
        if is_answer(exc, 404):
            abort(404, f"Label Studio has no project {number}.")
        raise


def _loop_options(number: int) -> LoopOptions:
    project_title(number)
    found = services().client.loop_options(number)
    return found or abort(404, f"Project {number} is not connected to this backend.")


def _segment_page(number: int, problem: str = "") -> str:
    known = services()
    title = project_title(number)
    names = volume_names(known.settings.data_root)
    return render_template("segment.html", title=title, volumes=names, problem=problem)


def _options_page(number: int, used: LoopOptions, problem: str = "") -> str:
    title = project_title(number)
    return render_template(
        "options.html", title=title, used=used, strategies=descriptions(), problem=problem
    )
