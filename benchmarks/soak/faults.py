"""What goes wrong while annotators work; each fault is over when its call returns."""

import random
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import psutil
from rq import Worker
from rq.job import Job

from benchmarks.soak.proxy import Weather
from benchmarks.soak.stage import LABELS, Stage
from biosegment.labels import LabelMap
from ml_backend.status import failures

PATIENCE_S: Final = 120.0
"""How long a fault waits for the moment that it is about."""
SHIFT_S: Final = 2 * 3600


class MissedError(Exception):
    """The moment that a fault is about did not come."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A job in the middle of a stage."""

    project_id: int
    job: Job


def moment(stage: Stage, name: str, projects: list[int] | None = None) -> Moment:
    """Return as soon as a turn is at a stage."""

    def find() -> Moment | None:
        for project_id in projects or stage.projects:
            job = stage.running(project_id)
            if job is not None and job.get_meta().get("stage") == name:
                return Moment(project_id, job)
        return None

    found = stage.wait(find, PATIENCE_S)
    if found is None:
        raise MissedError(f"no turn was {name}")
    return found


def worker_of(stage: Stage, job: Job) -> int:
    """Return the process of the worker that runs a job."""
    key = f"{Worker.redis_worker_namespace_prefix}{job.worker_name}"
    pid = stage.jobs.queue.connection.hget(key, "pid")
    if pid is None:
        raise MissedError(f"nobody runs {job.id}")
    return int(pid)


@contextmanager
def weather(stage: Stage, chosen: Weather) -> Iterator[None]:
    """Let requests of workers and backend to Label Studio fare badly for a while."""
    stage.proxy.weather = chosen
    try:
        yield
    finally:
        stage.proxy.weather = Weather()


def kill_trainer(stage: Stage, _: random.Random) -> str:
    """Kill a worker in the middle of a training."""
    return _kill_worker(stage, "training")


def kill_scorer(stage: Stage, _: random.Random) -> str:
    """Kill a worker while it scores the pool."""
    return _kill_worker(stage, "scoring")


def kill_publisher(stage: Stage, _: random.Random) -> str:
    """Kill a worker while it hands predictions to Label Studio."""
    with weather(stage, Weather(delay_s=1.5, path="import/predictions")):
        return _kill_worker(stage, "publishing")


def _kill_worker(stage: Stage, name: str) -> str:
    found = moment(stage, name)
    pid = worker_of(stage, found.job)
    stage.kill([pid])
    return f"worker {pid}, {name} for project {found.project_id}"


def kill_job(stage: Stage, _: random.Random) -> str:
    """Kill the process of a job alone, as a system out of memory does."""
    found = moment(stage, "training")
    [pid] = [each.pid for each in psutil.Process(worker_of(stage, found.job)).children()]
    stage.kill([pid])
    return f"job {pid}, training for project {found.project_id}"


def restart_redis(stage: Stage, _: random.Random) -> str:
    """Kill Redis in the middle of a training; it comes back with its data."""
    return _restart_redis(stage, keep=True)


def lose_redis(stage: Stage, _: random.Random) -> str:
    """Kill Redis in the middle of a training; it comes back with nothing."""
    return _restart_redis(stage, keep=False)


def _restart_redis(stage: Stage, *, keep: bool) -> str:
    with suppress(MissedError):
        moment(stage, "training")
    pids = stage.pids("redis-server")
    if keep:
        stage.jobs.queue.connection.save()
    else:
        stage.jobs.queue.connection.config_set("save", "")
        (stage.stack.folder / "redis.rdb").unlink(missing_ok=True)
    stage.kill(pids)
    stage.wait(lambda: stage.pids("redis-server") not in ([], pids), PATIENCE_S)
    stage.wait(lambda: stage.jobs.queue.connection.ping(), PATIENCE_S)
    return f"redis-server {pids}"


def restart_label_studio(stage: Stage, _: random.Random) -> str:
    """Kill Label Studio and wait until it is back."""
    pids = stage.pids("label-studio")
    stage.kill(pids)
    time.sleep(1)
    stage.wait(lambda: stage.client.check() is None, 300)
    return f"label-studio {pids}"


def slow_label_studio(stage: Stage, rng: random.Random) -> str:
    """Let every request to Label Studio take seconds longer."""
    seconds = rng.uniform(10, 20)
    with weather(stage, Weather(delay_s=3.0)):
        time.sleep(seconds)
    return f"3 s a request, for {seconds:.0f} s"


def fail_label_studio(stage: Stage, rng: random.Random) -> str:
    """Let Label Studio answer 500 to whatever it is asked."""
    seconds = rng.uniform(5, 15)
    with weather(stage, Weather(fails=True)):
        time.sleep(seconds)
    return f"for {seconds:.0f} s"


def kill_backend(stage: Stage, rng: random.Random) -> str:
    """Kill the backend between a webhook and the job that it asks for."""
    project_id = rng.choice(stage.projects)
    event = {"action": "ANNOTATION_CREATED", "project": {"id": project_id}}
    redis = stage.pids("redis-server")
    for pid in redis:
        psutil.Process(pid).suspend()
    try:
        asked = stage.webhook(event)
        time.sleep(0.25)  # the request waits for Redis now, half a second at most
        pids = stage.pids("ml_backend.wsgi")
        stage.kill(pids)
        asked.join()
    finally:
        for pid in redis:
            psutil.Process(pid).resume()
    stage.wait(stage.backend_answers, PATIENCE_S)
    return f"backend {pids}, project {project_id}"


def fill_disk(stage: Stage, _: random.Random) -> str:
    """Let no version be written: workers may write small files only."""
    before = {each.job_id for each in failures(stage.jobs)}

    def failed() -> str:
        # Not the latest job of a project: the next turn often waits already.
        for each in failures(stage.jobs):
            if each.job_id not in before and ("full" in each.reason or "large" in each.reason):
                return f"project {each.project_id}: {each.reason}"
        return ""

    def limit(size: int) -> None:
        for pid in stage.pids("ml_backend.worker"):
            with suppress(psutil.NoSuchProcess):
                psutil.Process(pid).rlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

    limit(200_000)
    try:
        told = stage.wait(failed, PATIENCE_S)
    finally:
        limit(resource.RLIM_INFINITY)
    if not told:
        raise MissedError("no version was written")
    return told


def set_clock_forward(stage: Stage, _: random.Random) -> str:
    """Set the wall clock forward in the middle of a training."""
    found = moment(stage, "training")
    stage.clock.set(SHIFT_S)
    return f"by {SHIFT_S} s, training for project {found.project_id}"


def set_clock_back(stage: Stage, _: random.Random) -> str:
    """Set the wall clock back in the middle of a training."""
    found = moment(stage, "training")
    stage.clock.set(-SHIFT_S)
    return f"by {SHIFT_S} s and more, training for project {found.project_id}"


def race(stage: Stage, rng: random.Random) -> str:
    """Ask for two turns of one project at once, one for each worker."""
    project_id = rng.choice(stage.projects)
    for _ in range(3):
        jobs = [stage.jobs.request_turn(project_id, force=force) for force in (False, True)]
        time.sleep(0.5)
    return f"project {project_id}, {len(set(jobs))} jobs at once"


def delete_project(stage: Stage, rng: random.Random) -> str:
    """Delete a project while it is trained."""
    number = stage.add_project(f"Short-lived {rng.randrange(10**6)}", (1, 256, 256))
    truth = stage.truths.pop(number)
    stage.label(number, truth, 6)
    moment(stage, "training", [number])
    stage.client._request("DELETE", f"api/projects/{number}/")
    return f"project {number}"


def add_class(stage: Stage, rng: random.Random) -> str:
    """Add a class to the labelling configuration while a training runs."""
    return _edit(stage, rng, [*LABELS, "extra"])


def rename_class(stage: Stage, rng: random.Random) -> str:
    """Rename a class that annotations use while a training runs."""
    return _edit(stage, rng, [*LABELS, f"renamed {rng.randrange(10**6)}"], first="extra")


def remove_class(stage: Stage, rng: random.Random) -> str:
    """Remove a class that annotations use while a training runs."""
    return _edit(stage, rng, [*LABELS], first="extra")


def _edit(stage: Stage, rng: random.Random, labels: list[str], first: str = "") -> str:
    project_id = rng.choice(stage.projects)
    present = LabelMap.from_config(stage.client.project(project_id)["label_config"]).names[1:]
    if first and len(present) == len(LABELS):
        stage.set_labels(project_id, [*LABELS, first])
        present = [*LABELS, first]
        time.sleep(5)  # annotators begin to use it
    moment(stage, "training", [project_id])
    stage.set_labels(project_id, labels)
    return f"project {project_id}: {', '.join(present)} became {', '.join(labels)}"


def delete_tasks(stage: Stage, rng: random.Random) -> str:
    """Delete tasks while they are scored."""
    found = moment(stage, "scoring")
    tasks = stage.client.tasks(found.project_id)
    for task in rng.sample(tasks, 5):
        stage.client._request("DELETE", f"api/tasks/{task['id']}/")
    return f"5 of {len(tasks)} of project {found.project_id}"


FAULTS: Final[dict[str, Callable[[Stage, random.Random], str]]] = {
    "worker-killed-in-training": kill_trainer,
    "worker-killed-in-scoring": kill_scorer,
    "worker-killed-in-publishing": kill_publisher,
    "job-killed": kill_job,
    "redis-restarted": restart_redis,
    "redis-lost": lose_redis,
    "label-studio-restarted": restart_label_studio,
    "label-studio-slow": slow_label_studio,
    "label-studio-failing": fail_label_studio,
    "backend-killed": kill_backend,
    "disk-full": fill_disk,
    "clock-forward": set_clock_forward,
    "clock-back": set_clock_back,
    "two-workers-race": race,
    "project-deleted": delete_project,
    "class-added": add_class,
    "class-renamed": rename_class,
    "class-removed": remove_class,
    "tasks-deleted": delete_tasks,
}
"""Name -> what makes it happen."""
