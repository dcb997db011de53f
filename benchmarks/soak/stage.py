"""The stack that is broken: what runs, how it is reached, and how each part of it is killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import psutil
import tifffile
from numpy.typing import NDArray
from rq import Worker
from rq.job import Job

from benchmarks.ports import free_port
from benchmarks.soak.clock import Clock
from benchmarks.soak.proxy import Proxy
from biosegment.labels import LabelMap, labelling_config
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.connection import authorization_header
from biosegment.labelstudio.payloads import Json, annotation_regions, tile_of
from biosegment.settings import LoopOptions, Settings
from biosegment.stack import Stack, prepare
from biosegment.supervisor import running
from importers.pool import PoolPlan
from importers.project import ProjectPlan, import_project
from ml_backend.job_names import turn_prefix
from ml_backend.jobs import JobQueue, connect
from ml_backend.model_registry import ModelRegistry

LABELS: Final = ("bar", "dot")
TILE_PX: Final = 64
OPTIONS: Final = LoopOptions(retrain_every=4, training_effort=0.05)
WORKER: Final = "ml_backend.worker"
WORKERS: Final = 2


@dataclass(slots=True)
class Stage:
    """One stack and its two workers; calls of the workers to Label Studio go through a proxy."""

    stack: Stack
    """As its own processes see it."""
    direct: Settings
    """The same with the address of Label Studio itself, for annotators."""
    proxy: Proxy
    clock: Clock
    log: Callable[[str], None]
    second: "KeptWorker"
    client: LabelStudioClient
    """Label Studio, directly."""
    jobs: JobQueue
    registry: ModelRegistry
    truths: dict[int, NDArray[np.uint8]] = field(default_factory=dict)
    """Project -> its ground truth, (z, y, x)."""

    @property
    def projects(self) -> list[int]:
        """Numbers of the projects that are there for good."""
        return list(self.truths)

    def running(self, project_id: int) -> Job | None:
        """Return the project's turn that runs.

        `JobQueue.running` would clean up after workers that died, which is for others to do.
        """
        for job_id in self.jobs.queue.started_job_registry.get_job_ids(cleanup=False):
            if job_id.startswith(turn_prefix(project_id)):
                return self.jobs.job(job_id)
        return None

    def pids(self, part_of_command: str) -> list[int]:
        """Return the processes whose command line holds a text, parents first."""
        found = []
        for root in (self.supervisor, psutil.Process()):
            for process in root.children(recursive=True):
                with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
                    if part_of_command in " ".join(process.cmdline()):
                        found.append((process.create_time(), process.pid))
        return [pid for _, pid in sorted(set(found))]

    def workers(self) -> list[int]:
        """Return the worker processes, without the jobs that they forked."""
        every = self.pids(WORKER)
        with suppress(psutil.NoSuchProcess):
            return [pid for pid in every if psutil.Process(pid).ppid() not in every]
        return self.workers()

    def known_workers(self) -> int:
        """Return how many workers Redis knows of, killed ones without."""
        queue = self.jobs.queue
        return len(Worker.all(queue.connection, queue=queue, serializer=queue.serializer))

    def kill(self, pids: list[int]) -> None:
        """Kill processes so that they cannot do anything about it."""
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def supervisor(self) -> psutil.Process:
        """The process supervisord of the stack."""
        pidfile = self.stack.folder / "supervisord.pid"
        return psutil.Process(int(pidfile.read_text()))

    def add_project(self, title: str, shape: tuple[int, int, int]) -> int:
        """Import a made-up volume as a project; returns its number."""
        truth = np.zeros(shape, np.uint8)
        truth[:, 10:100, 5 : shape[2] // 2] = 1
        truth[:, shape[1] // 2 :: 32, ::3] = 2
        noise = np.random.default_rng(len(title)).normal(150, 15, shape)
        grey = (noise - 60.0 * (truth == 1) + 60.0 * (truth == 2)).clip(0, 255).astype(np.uint8)
        path = self.stack.settings.data_root.parent / f"{title}.tif"
        tifffile.imwrite(path, grey, photometric="minisblack")
        plan = ProjectPlan(title, LABELS, title.replace(" ", "-"), pool=PoolPlan(tile_px=TILE_PX))
        number = import_project(path, plan, self.direct, lambda *_: None).project_id
        self.truths[number] = truth
        return number

    def set_labels(self, project_id: int, labels: list[str]) -> None:
        """Change a project's labels as its manager would in Label Studio."""
        path, body = f"api/projects/{project_id}/", {"label_config": labelling_config(labels)}
        self.client._request("PATCH", path, json=body)

    def label(self, project_id: int, truth: NDArray[np.uint8], count: int) -> None:
        """Submit the truth for the tasks that are served next."""
        label_map = LabelMap.from_config(self.client.project(project_id)["label_config"])
        for _ in range(count):
            task = self.client.next_task(project_id)
            if task is not None:
                mask = truth[tile_of(task).roi.slices][0]
                self.client.annotate(task["id"], annotation_regions([mask], label_map), 1.0)

    def webhook(self, event: Json) -> threading.Thread:
        """Send a webhook as Label Studio does, and do not wait for the answer."""

        def send() -> None:
            with suppress(httpx.HTTPError):
                headers = authorization_header(self.direct)
                url = f"{self.direct.backend_url}/webhook"
                httpx.post(url, json=event, headers=headers, timeout=1)

        thread = threading.Thread(target=send)
        thread.start()
        return thread

    def backend_answers(self) -> bool:
        """Return whether the backend is up."""
        return httpx.get(f"{self.direct.backend_url}/health", timeout=2).is_success

    def annotator(self, name: str) -> LabelStudioClient:
        """Sign up at Label Studio and return the new user's client."""
        address = self.client._json("GET", "api/invite")["invite_url"]
        url = self.direct.label_studio_url
        with httpx.Client(base_url=url, follow_redirects=True, timeout=60) as browser:
            browser.get(address)
            form = {
                "email": f"{name}@biosegment.local",
                "password": "correct-horse-staple",
                "csrfmiddlewaretoken": browser.cookies["csrftoken"],
            }
            browser.post(address, data=form, headers={"Referer": url})
            token = browser.get("/api/current-user/token").json()["token"]
        return LabelStudioClient(replace(self.direct, label_studio_api_key=token))

    def wait(self, condition: Callable[[], Any], timeout_s: float) -> Any:  # noqa: ANN401
        """Return the condition's value once it is true, or what it was when time is up."""
        deadline = time.monotonic() + timeout_s
        while True:
            value = None
            with suppress(Exception):  # what is asked may be what is broken just now
                value = condition()
            if value or time.monotonic() > deadline:
                return value
            time.sleep(0.1)


class KeptWorker(threading.Thread):
    """A second worker, started anew whenever it ends."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        super().__init__(daemon=True)
        self._environment = environment
        self._log = log
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Start it until told to stop."""
        while not self._stopped.wait(1):
            with self._log.open("ab") as file:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", WORKER],
                    env=os.environ | self._environment,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            self._process.wait()

    def stop(self) -> None:
        """Kill it and its job."""
        self._stopped.set()
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self.join()


@contextmanager
def stage(folder: Path, log: Callable[[str], None]) -> Iterator[Stage]:
    """Run a stack in an empty folder for as long as the block lasts."""
    plain = prepare(Settings(data_root=folder / "data", loop=OPTIONS), free_port(), free_port())
    proxy = Proxy(free_port(), plain.settings.label_studio_url)
    clock = Clock(folder)
    seen = replace(plain.settings, label_studio_url=f"http://127.0.0.1:{proxy.server_port}")
    stack = replace(plain, settings=seen)
    os.environ.update(clock.environment)
    try:
        with running(stack, log):
            for name in clock.environment:
                del os.environ[name]
            second = KeptWorker(
                seen.environment() | clock.environment | {"OMP_WAIT_POLICY": "PASSIVE"},
                stack.folder / "logs" / "second-worker.log",
            )
            second.start()
            try:
                with LabelStudioClient(plain.settings) as client:
                    yield Stage(
                        stack, plain.settings, proxy, clock, log, second, client,
                        JobQueue(connect(seen, timeout_s=5)), ModelRegistry(seen.data_root),
                    )  # fmt: skip
            finally:
                second.stop()
    finally:
        proxy.stop()
