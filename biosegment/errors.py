"""Everything that BioSegment raises for a reason its user can act on.

The arguments of each exception are the named facts; the sentence is built from them on demand. So
every error pickles by itself and crosses process borders unchanged.
"""

from pathlib import Path


class BioSegmentError(Exception):
    """Root of all errors that the command line and the HTTP server show as one sentence."""


class SettingsError(BioSegmentError, ValueError):
    """A setting is missing or unusable: ``SettingsError(name, reason)``."""

    def __str__(self) -> str:
        name, reason = self.args
        return f"The setting {name} {reason}."


class UnsupportedFormatError(BioSegmentError, ValueError):
    """No reader takes this file: ``UnsupportedFormatError(path, {reader: why it refused})``."""

    def __str__(self) -> str:
        path, refusals = self.args
        tried = "; ".join(f"{reader}: {why}" for reader, why in refusals.items())
        return f"No reader can open {path} ({tried or 'no reader knows this kind of file'})."


class UnreadableFileError(BioSegmentError, ValueError):
    """A file is damaged or inconsistent: ``UnreadableFileError(path, reason)``."""

    def __str__(self) -> str:
        path, reason = self.args
        return f"{path} cannot be read: {reason}."


class ChoiceError(BioSegmentError, ValueError):
    """A file holds several volumes: ``ChoiceError(path, axis, names, what was chosen or None)``."""

    def __str__(self) -> str:
        path, axis, names, chosen = self.args
        several = f"{path} has {len(names)} {axis}s" if len(names) > 1 else f"{path} has one {axis}"
        listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
        fault = "" if chosen is None else f" and no {axis} {chosen}"
        return f"{several} ({listed}){fault}: choose with --{axis}."


class VoxelSizeError(BioSegmentError, ValueError):
    """A voxel size cannot be used: ``VoxelSizeError(size, reason)``."""

    def __str__(self) -> str:
        size, reason = self.args
        return (
            f"The voxel size {size} cannot be used: {reason}; give the edges in z, y and x with "
            "their unit, such as --voxel-size 40,5,5nm."
        )


class MissingExtraError(BioSegmentError, ImportError):
    """A format's library is not installed: ``MissingExtraError(file or format, extra)``."""

    def __str__(self) -> str:
        wanted_for, extra = self.args
        return (
            f"{wanted_for} needs a library that is not installed; get it with "
            f'pip install "biosegment[{extra}]".'
        )


class VolumeNotFoundError(BioSegmentError, LookupError):
    """The data root has no such volume: ``VolumeNotFoundError(name, data_root)``."""

    def __str__(self) -> str:
        name, data_root = self.args
        return f"There is no volume {name!r} under {Path(data_root) / 'volumes'}; import it first."


class VolumeExistsError(BioSegmentError, FileExistsError):
    """Another volume already has this name: ``VolumeExistsError(name, detail)``."""

    def __str__(self) -> str:
        name, detail = self.args
        return (
            f"A different volume is already imported as {name!r} ({detail}); give another --name."
        )


class LinkError(BioSegmentError, ValueError):
    """A source cannot be used in place: ``LinkError(path, reason)``."""

    def __str__(self) -> str:
        path, reason = self.args
        return f"{path} cannot be used where it is: {reason}; import it without --link."


class LinkBrokenError(BioSegmentError, LookupError):
    """A source that is used in place is not as it was: ``LinkBrokenError(path, reason)``."""

    def __str__(self) -> str:
        path, reason = self.args
        return f"The linked volume {path} cannot be read ({reason}); put it back to where it was."


class RegionError(BioSegmentError, ValueError):
    """A region or tile lies outside its volume: ``RegionError(region, shape)``."""

    def __str__(self) -> str:
        region, shape = self.args
        return f"{region} does not fit in a volume of shape {tuple(shape)} (z, y, x)."


class BoxError(BioSegmentError, ValueError):
    """A part of a volume is not told as it should be: ``BoxError(text)``."""

    def __str__(self) -> str:
        (text,) = self.args
        return f"{text!r} is no region: give from:to along z, y and x, such as 0:10,:,100:600."


class LabelConfigError(BioSegmentError, ValueError):
    """A labelling configuration is unusable: ``LabelConfigError(reason)``."""

    def __str__(self) -> str:
        return f"The labelling configuration cannot be used: {self.args[0]}."


class LabelValuesError(BioSegmentError, ValueError):
    """Values of a label file mean no label: ``LabelValuesError(path, values, labels)``."""

    def __str__(self) -> str:
        path, values, labels = self.args
        return (
            f"What {path} means by {', '.join(map(str, values))} is not known: the project has the "
            f"labels {', '.join(labels)}; say for each value which it is, as in "
            f"--map {values[0]}={labels[0]}, or nothing after = for background."
        )


class TaskError(BioSegmentError, ValueError):
    """A task or its annotation is unusable: ``TaskError(task_id, reason)``."""

    def __str__(self) -> str:
        task_id, reason = self.args
        return f"Task {task_id} cannot be used: {reason}."


class LabelStudioError(BioSegmentError):
    """Label Studio did not do what was asked: ``LabelStudioError(url, reason)``."""

    def __str__(self) -> str:
        url, reason = self.args
        return f"Label Studio at {url}: {reason}."


class AuthenticationError(LabelStudioError):
    """Label Studio refused the token: ``AuthenticationError(url)``."""

    def __str__(self) -> str:
        return (
            f"Label Studio at {self.args[0]} refused the token; set LABEL_STUDIO_API_KEY to one "
            "from its page Account & Settings."
        )


class ProjectNotFoundError(LabelStudioError, LookupError):
    """Label Studio has no such project: ``ProjectNotFoundError(url, name, names)``."""

    def __str__(self) -> str:
        url, name, names = self.args
        return (
            f"Label Studio at {url} has no project {name!r} (it has: {', '.join(names) or 'none'})."
        )


class UnsafeAddressError(BioSegmentError, ValueError):
    """A task points outside: ``UnsafeAddressError(address, allowed)``."""

    def __str__(self) -> str:
        address, allowed = self.args
        return f"The address {address!r} was not followed; tasks may only point to {allowed}."


class NothingToTrainOnError(BioSegmentError, ValueError):
    """No annotated tile has a known pixel: ``NothingToTrainOnError(number of tiles)``."""

    def __str__(self) -> str:
        (tiles,) = self.args
        found = f"none of the {tiles} annotated tiles has a known pixel" if tiles else "no tile is"
        tail = "" if tiles else " annotated"
        return f"There is nothing to train on: {found}{tail}. Annotate some tiles first."


class BrushError(BioSegmentError, ValueError):
    """A brush mask cannot be encoded or decoded: ``BrushError(reason)``."""

    def __str__(self) -> str:
        (reason,) = self.args
        return f"The brush mask is unusable: {reason}."


class VolumeNameError(BioSegmentError, ValueError):
    """A volume cannot be called this: ``VolumeNameError(name)``."""

    def __str__(self) -> str:
        (name,) = self.args
        return (
            f"{name!r} cannot name a volume; use up to 100 letters, digits, dots, dashes or "
            "underscores, beginning with a letter or digit."
        )


class SourceNotFoundError(BioSegmentError, LookupError):
    """Nothing lies at the path that was to be imported: ``SourceNotFoundError(path)``."""

    def __str__(self) -> str:
        (path,) = self.args
        return f"There is no file or folder {path}; check the path."


class LabelsNotFoundError(BioSegmentError, LookupError):
    """A volume has no such label image: ``LabelsNotFoundError(name, volume, known names)``."""

    def __str__(self) -> str:
        name, volume, known = self.args
        has = ", ".join(known) or "none"
        return f"The volume {volume!r} has no labels {name!r} (it has: {has})."


class LabelsMismatchError(BioSegmentError, ValueError):
    """A label image does not belong to its volume: ``LabelsMismatchError(path, reason)``."""

    def __str__(self) -> str:
        path, reason = self.args
        return f"{path} cannot be the labels of this volume: {reason}."


class DiskFullError(BioSegmentError, OSError):
    """The disk takes no more: ``DiskFullError(folder, what the system said)``."""

    def __str__(self) -> str:
        folder, reason = self.args
        return (
            f"Nothing more can be written to {folder} ({reason}); free some space or choose "
            "another data folder, then run the same command again."
        )


class ContractError(BioSegmentError, ValueError):
    """A request is not one that Label Studio sends: ``ContractError(reason)``."""

    def __str__(self) -> str:
        return f"The request cannot be used: {self.args[0]}."


class QueueError(BioSegmentError):
    """Redis does not answer: ``QueueError(address without password)``."""

    def __str__(self) -> str:
        return (
            f"The job queue (Redis at {self.args[0]}) does not answer; nothing is lost, training "
            "starts by itself once it is back."
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


class NoWorkerError(BioSegmentError):
    """Nobody takes jobs from the queue: ``NoWorkerError(address without password)``."""

    def __str__(self) -> str:
        return (
            f"No worker takes jobs from the queue (Redis at {self.args[0]}); start one with "
            "`biosegment up` or `python -m ml_backend.worker`."
        )


class PortInUseError(BioSegmentError):
    """Something else listens on a port: ``PortInUseError(port, option)``."""

    def __str__(self) -> str:
        port, option = self.args
        return (
            f"Port {port} is in use, perhaps by a stack that is already running; stop that, or "
            f"choose another port with {option}."
        )


class MissingProgramError(BioSegmentError):
    """A program that is needed is not installed: ``MissingProgramError(name)``."""

    def __str__(self) -> str:
        return f"The program {self.args[0]} is not installed; `make install` installs everything."


class ServiceError(BioSegmentError):
    """A process of the stack ended or never answered: ``ServiceError(name, log, last_line)``."""

    def __str__(self) -> str:
        name, log, last_line = self.args
        return f"The process {name} failed; its log {log} ends with: {last_line}"


class LoopStalledError(BioSegmentError, TimeoutError):
    """No new model version came: ``LoopStalledError(project_id, timeout_s)``."""

    def __str__(self) -> str:
        project_id, timeout_s = self.args
        return (
            f"Project {project_id} got no new model version in {timeout_s:g} s; the status page "
            "says what the worker is doing."
        )


class UnknownStrategyError(BioSegmentError, ValueError):
    """No strategy has this name: ``UnknownStrategyError(name, names)``."""

    def __str__(self) -> str:
        name, names = self.args
        return f"There is no strategy {name!r}; choose one of: {', '.join(names)}."


class SampleError(BioSegmentError):
    """A sample volume cannot be had: ``SampleError(name, reason)``."""

    def __str__(self) -> str:
        name, reason = self.args
        return f"The sample {name} cannot be had ({reason})."


class StackRunningError(BioSegmentError):
    """A stack already runs on this data folder: ``StackRunningError(data_root)``."""

    def __str__(self) -> str:
        return f"A stack is already running on the data folder {self.args[0]}; stop that one first."


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
