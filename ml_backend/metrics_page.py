"""Prometheus metrics: what requests cost, and the state of jobs, models and disk when asked.

docs/monitoring.md lists the series. Requests are counted in this process, or in all processes of
one server when ``PROMETHEUS_MULTIPROC_DIR`` names a folder that they share. Everything else is read
at every scrape from where all processes see it, and so is the same whichever of them answers.
"""

import shutil
import time
from collections import Counter as Count
from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Final

from flask import Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from biosegment.errors import QueueError
from ml_backend.job_totals import JobTotals
from ml_backend.jobs import JobQueue
from ml_backend.live_quality import live_qualities
from ml_backend.model_registry import ModelRegistry
from ml_backend.queue_state import jobs_by_state, waiting_s, workers

DURATION_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
MAX_PROJECTS: Final = 500
"""The newest projects have series of their own; jobs of all others are counted together."""
OTHER: Final = "other"


class Metrics:
    """The page ``/metrics`` of one application.

    Parameters
    ----------
    registry
        Of model versions.
    jobs
        The job queue.
    data_root
        Whose disk is measured.
    """

    def __init__(self, registry: ModelRegistry, jobs: JobQueue, data_root: Path) -> None:
        self._page = CollectorRegistry()
        self._page.register(StateCollector(registry, jobs, data_root))
        counted: CollectorRegistry | None = None
        try:
            MultiProcessCollector(self._page)  # type: ignore[no-untyped-call]
        except ValueError:
            # This process is the only one.
            counted = self._page
        self._requests = Counter(
            "biosegment_requests", "Requests answered.", ["route", "status"], registry=counted
        )
        self._errors = Counter(
            "biosegment_errors",
            "Requests that were refused or failed, by what was wrong.",
            ["route", "kind"],
            registry=counted,
        )
        self._duration = Histogram(
            "biosegment_request_duration_seconds",
            "Time to answer a request.",
            ["route"],
            buckets=DURATION_BUCKETS_S,
            registry=counted,
        )
        self._predictions = Counter(
            "biosegment_predictions",
            "Tasks that Label Studio asked a mask for, by whether one was found.",
            ["outcome"],
            registry=counted,
        )
        for outcome in ("mask", "empty", "unreadable"):
            self._predictions.labels(outcome)

    def observe(self, response: Response) -> Response:
        """Count a request that was answered."""
        route = request.endpoint or "unknown"
        self._requests.labels(route, response.status_code).inc()
        self._duration.labels(route).observe(time.perf_counter() - g.started)
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            kind = g.get("error") or HTTPStatus(response.status_code).phrase
            self._errors.labels(route, kind).inc()
        return response

    def count_predictions(self, answers: Iterable[object]) -> None:
        """Count what was answered to ``/predict``, one answer a task."""
        for answer in answers:
            if not isinstance(answer, Mapping):
                outcome = "unreadable"
            else:
                outcome = "mask" if answer["result"] else "empty"
            self._predictions.labels(outcome).inc()

    def page(self) -> Response:
        """Return all series in Prometheus' text format."""
        return Response(generate_latest(self._page), content_type=CONTENT_TYPE_LATEST)


class StateCollector(Collector):
    """Reads jobs from Redis, versions from the registry and free space at every scrape."""

    def __init__(self, registry: ModelRegistry, jobs: JobQueue, data_root: Path) -> None:
        self._registry = registry
        self._jobs = jobs
        self._data_root = data_root

    def describe(self) -> list[Metric]:
        """Say that nothing needs to be known beforehand."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the series of the job queue, the models and the disk."""
        up = GaugeMetricFamily("biosegment_queue_up", "Whether Redis answers.")
        try:
            yield from [*self._queue(), *self._workers(), *self._ended()]
            up.add_metric([], 1)
        except QueueError:
            up.add_metric([], 0)
        yield up
        yield from self._models()
        yield from self._disk()

    def _queue(self) -> Iterator[Metric]:
        jobs = GaugeMetricFamily(
            "biosegment_jobs",
            "Jobs that wait, run, finished in the last week, or failed and were not tried again.",
            labels=["state", "kind", "project"],
        )
        counts = jobs_by_state(self._jobs)
        shown = set(sorted({project or 0 for _, _, project in counts})[-MAX_PROJECTS:])
        bounded: Count[tuple[str, str, str]] = Count()
        for (state, kind, project), count in counts.items():
            bounded[state, kind, str(project) if project in shown else OTHER] += count
        for key, count in bounded.items():
            jobs.add_metric(key, count)
        yield jobs
        yield GaugeMetricFamily(
            "biosegment_queue_age_seconds",
            "How long the job that is taken next has waited; 0 when none waits.",
            value=waiting_s(self._jobs),
        )

    def _workers(self) -> Iterator[Metric]:
        found = workers(self._jobs)
        yield GaugeMetricFamily("biosegment_workers", "Workers that live.", value=len(found))
        age = GaugeMetricFamily(
            "biosegment_worker_heartbeat_age_seconds",
            "How long ago the worker of a host was heard of that has been silent longest.",
            labels=["host"],
        )
        # Of each host the last one is the oldest.
        for host, seconds in {each.host: each.heartbeat_age_s for each in found}.items():
            age.add_metric([host], seconds)
        yield age

    def _ended(self) -> Iterator[Metric]:
        totals = JobTotals(self._jobs.connection)
        ended = CounterMetricFamily(
            "biosegment_jobs_ended", "Jobs that ended.", labels=["kind", "outcome"]
        )
        seconds = HistogramMetricFamily(
            "biosegment_job_duration_seconds",
            "How long jobs ran that finished or failed.",
            labels=["kind"],
        )
        with self._jobs.errors():
            for key, count in sorted(totals.ended().items()):
                ended.add_metric(key, count)
            for kind, found in totals.durations().items():
                seconds.add_metric([kind], found.cumulative, found.total_s)
        yield from (ended, seconds)

    def _models(self) -> Iterator[Metric]:
        versions = GaugeMetricFamily(
            "biosegment_model_versions", "Model versions.", labels=["project"]
        )
        labels = GaugeMetricFamily(
            "biosegment_labels", "Annotations the serving version knows.", labels=["project"]
        )
        iou = GaugeMetricFamily(
            "biosegment_live_iou",
            "Mean IoU of the last tested version on annotations that none had learned from.",
            labels=["project"],
        )
        for project_id in sorted(self._registry.projects())[-MAX_PROJECTS:]:
            cards = self._registry.cards(project_id)
            versions.add_metric([str(project_id)], len(cards))
            if cards:
                labels.add_metric([str(project_id)], len(cards[-1].annotations))
            qualities = live_qualities(cards)
            if qualities and qualities[-1].mean is not None:
                iou.add_metric([str(project_id)], qualities[-1].mean.value)
        yield from (versions, labels, iou)

    def _disk(self) -> Iterator[Metric]:
        if not self._data_root.exists():
            return
        disk = shutil.disk_usage(self._data_root)
        yield GaugeMetricFamily(
            "biosegment_data_free_bytes", "Free space for the data folder.", value=disk.free
        )
        yield GaugeMetricFamily(
            "biosegment_data_size_bytes", "Size of the disk of the data folder.", value=disk.total
        )
