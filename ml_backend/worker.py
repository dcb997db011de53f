"""The worker process: runs the turns of the loop, one after the other."""

import logging
import os
from importlib import import_module
from typing import Final

from rq import Worker
from rq.serializers import JSONSerializer

from biosegment.errors import BioSegmentError
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.log import configure_logging
from biosegment.settings import Settings
from ml_backend.hardware import keep_memory
from ml_backend.jobs import JobQueue, connect, reconcile

logger = logging.getLogger(__name__)

MAINTENANCE_S: Final = 30
"""How often what was lost is looked for."""
NICENESS: Final = 5
"""Training yields to the processes that somebody waits for."""


class LoopWorker(Worker):
    """An RQ worker that also finds lost work again, at its start and while it is idle."""

    max_connection_wait_time = 10.0

    def __init__(self, settings: Settings) -> None:
        connection = connect(settings)
        self._jobs = JobQueue(connection)
        self._settings = settings
        super().__init__(
            [self._jobs.queue],
            connection=connection,
            serializer=JSONSerializer,
            maintenance_interval=MAINTENANCE_S,
            # RQ waits for a job up to 15 s less than this, then comes back to maintenance.
            worker_ttl=MAINTENANCE_S + 15,
            job_monitoring_interval=5,
        )

    def run_maintenance_tasks(self) -> None:
        """Clean RQ's registries, then ask for the turns that are due."""
        super().run_maintenance_tasks()  # type: ignore[no-untyped-call]
        try:
            with LabelStudioClient(self._settings) as client:
                reconcile(client, self._jobs)
        except BioSegmentError as exc:
            logger.warning("could not look for lost work: %s", exc)


def main() -> None:
    """Run a worker until it is told to stop."""
    settings = Settings.from_env()
    configure_logging(settings.log_level)
    os.nice(NICENESS)
    keep_memory()
    # Forked jobs start with it in memory; importing it costs each of them seconds otherwise.
    import_module("ml_backend.loop")
    LoopWorker(settings).work(logging_level="WARNING")


if __name__ == "__main__":
    main()
