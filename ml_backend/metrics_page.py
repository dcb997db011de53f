"""Prometheus metrics: what the requests cost, and the state of jobs and models when asked."""

import time
from collections.abc import Iterator
from typing import Final

from flask import Response, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from biosegment.errors import QueueError
from ml_backend.jobs import JobQueue
from ml_backend.live_quality import live_qualities
from ml_backend.model_registry import ModelRegistry

DURATION_BUCKETS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class RequestMetrics:
    """Counts requests by route and status, and how long they take."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            "biosegment_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self._duration = Histogram(
            "biosegment_request_duration_seconds",
            "Time to answer a request.",
            ["route"],
            buckets=DURATION_BUCKETS_S,
            registry=registry,
        )

    def observe(self, response: Response) -> Response:
        """Count a request that was answered."""
        route = request.endpoint or "unknown"
        self._requests.labels(route, response.status_code).inc()
        self._duration.labels(route).observe(time.perf_counter() - g.started)
        return response


class StateCollector(Collector):
    """Reads jobs from Redis and model versions from the registry at every scrape."""

    def __init__(self, registry: ModelRegistry, jobs: JobQueue) -> None:
        self._registry = registry
        self._jobs = jobs

    def describe(self) -> list[GaugeMetricFamily]:
        """Say that nothing needs to be known beforehand."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield jobs by state, and of each project its versions, labels and last quality."""
        up = GaugeMetricFamily("biosegment_queue_up", "Whether Redis answers.")
        jobs = GaugeMetricFamily("biosegment_jobs", "Jobs by state.", labels=["state"])
        try:
            for state, count in self._jobs.counts().items():
                jobs.add_metric([state], count)
            up.add_metric([], 1)
        except QueueError:
            up.add_metric([], 0)
        yield from (up, jobs)
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
        for project_id in self._registry.projects():
            cards = self._registry.cards(project_id)
            versions.add_metric([str(project_id)], len(cards))
            if cards:
                labels.add_metric([str(project_id)], len(cards[-1].annotations))
            qualities = live_qualities(cards)
            if qualities and qualities[-1].mean is not None:
                iou.add_metric([str(project_id)], qualities[-1].mean.value)
        yield from (versions, labels, iou)
