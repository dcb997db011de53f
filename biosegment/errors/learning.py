"""Errors of training, ranking, experiments and the queue of their jobs."""

from biosegment.errors.base import BioSegmentError


class NothingToTrainOnError(BioSegmentError, ValueError):
    """No annotated tile has a known pixel: ``NothingToTrainOnError(number of tiles)``."""

    def __str__(self) -> str:
        (tiles,) = self.args
        found = f"none of the {tiles} annotated tiles has a known pixel" if tiles else "no tile is"
        tail = "" if tiles else " annotated"
        return f"There is nothing to train on: {found}{tail}. Annotate some tiles first."


class UnknownStrategyError(BioSegmentError, ValueError):
    """No strategy has this name: ``UnknownStrategyError(name, names)``."""

    def __str__(self) -> str:
        name, names = self.args
        return f"There is no strategy {name!r}; choose one of: {', '.join(names)}."


class QueueError(BioSegmentError):
    """Redis does not answer: ``QueueError(address without password)``."""

    def __str__(self) -> str:
        return (
            f"The job queue (Redis at {self.args[0]}) does not answer; nothing is lost, training "
            "starts by itself once it is back."
        )


class QueuePasswordError(QueueError):
    """Redis asks for another password: ``QueuePasswordError(address without password)``."""

    def __str__(self) -> str:
        return (
            f"The job queue (Redis at {self.args[0]}) refuses the password that it was given, or "
            "asks for one; set REDIS_PASSWORD to the one that Redis was started with."
        )


class ClusterError(BioSegmentError):
    """Dask's workers did not do what was asked: ``ClusterError(address, reason)``."""

    def __str__(self) -> str:
        address, reason = self.args
        return f"The Dask scheduler at {address}: {reason.rstrip('.')}."


class SegmentationError(BioSegmentError):
    """A segmentation on a worker failed: ``SegmentationError(volume, reason)``."""

    def __str__(self) -> str:
        volume, reason = self.args
        return f"The volume {volume!r} was not segmented: {reason.rstrip('.')}."


class NoWorkerError(BioSegmentError):
    """Nobody takes jobs from the queue: ``NoWorkerError(address without password)``."""

    def __str__(self) -> str:
        return (
            f"No worker takes jobs from the queue (Redis at {self.args[0]}); start one with "
            "`biosegment up` or `python -m ml_backend.worker`."
        )


class LoopStalledError(BioSegmentError, TimeoutError):
    """No new model version came: ``LoopStalledError(project_id, timeout_s)``."""

    def __str__(self) -> str:
        project_id, timeout_s = self.args
        return (
            f"Project {project_id} got no new model version in {timeout_s:g} s; the status page "
            "says what the worker is doing."
        )


class ModelNotFoundError(BioSegmentError, LookupError):
    """A project has no such version: ``ModelNotFoundError(project_id, version)``."""

    def __str__(self) -> str:
        project_id, version = self.args
        return f"Project {project_id} has no model version {version!r}."


class ModelDamagedError(BioSegmentError, ValueError):
    """A saved version cannot be used: ``ModelDamagedError(path, reason)``."""

    def __str__(self) -> str:
        path, reason = self.args
        return f"{path} cannot be used: {reason}. Delete its folder; the version before it serves."


class ModelStorageError(BioSegmentError, OSError):
    """The place where models are shared cannot be used: ``ModelStorageError(url, reason)``."""

    def __str__(self) -> str:
        url, reason = self.args
        return (
            f"The model storage {url} cannot be used ({reason}); check BIOSEGMENT_MODEL_STORAGE "
            "and its credentials. Models that it lacks are kept, and follow once it answers."
        )


class ModelPackageError(BioSegmentError, ValueError):
    """A file is no model for a project: ``ModelPackageError(path, reason)``."""

    def __str__(self) -> str:
        path, reason = self.args
        return f"{path} cannot be used as a model: {reason.rstrip('.')}."


class ProjectBusyError(BioSegmentError):
    """A worker is at a project's models: ``ProjectBusyError(project title)``."""

    def __str__(self) -> str:
        return f"A worker is training or ranking {self.args[0]!r}; try again once it is done."


class RecipeError(BioSegmentError, ValueError):
    """A project's training recipe cannot be used: ``RecipeError(path, reason)``."""

    def __str__(self) -> str:
        path, reason = self.args
        return (
            f"The training recipe {path} cannot be used: {reason}; correct it, or remove it with "
            "`biosegment tune PROJECT --reset`."
        )


class TooFewLabelsError(BioSegmentError, ValueError):
    """A search has too little to measure on: ``TooFewLabelsError(annotated, with foreground)``."""

    def __str__(self) -> str:
        annotated, foreground = self.args
        return (
            "Tuning needs at least 6 annotated tasks, 2 of them with foreground; this project has "
            f"{annotated}, of which {foreground} with foreground. Annotate some more first."
        )


class TuningError(BioSegmentError):
    """A search for a better recipe ended early: ``TuningError(project title, reason)``."""

    def __str__(self) -> str:
        title, reason = self.args
        return f"The tuning of {title!r} stopped: {reason.rstrip('.')}."


class ExperimentExistsError(BioSegmentError, FileExistsError):
    """A folder holds other results: ``ExperimentExistsError(folder, what differs)``."""

    def __str__(self) -> str:
        folder, differing = self.args
        return (
            f"{folder} holds the results of an experiment with other settings ({differing}); "
            "choose another --out."
        )


class RunEndedError(BioSegmentError):
    """The process of a simulation ended: ``RunEndedError(run, exit code)``."""

    def __str__(self) -> str:
        run, code = self.args
        return (
            f"The run {run} ended unexpectedly (exit code {code}), perhaps for want of memory; the "
            "same command with fewer --jobs takes up where it stopped."
        )
