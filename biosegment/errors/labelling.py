"""Errors of labels, tasks and Label Studio."""

from biosegment.errors.base import BioSegmentError


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
            f"--map {str(values[0]).split()[0]}={labels[0]}, or nothing after = for background."
        )


class TileExportError(BioSegmentError, ValueError):
    """A folder of exported tiles does not fit: ``TileExportError(folder, reason)``."""

    def __str__(self) -> str:
        folder, reason = self.args
        return f"The exported tiles in {folder} cannot be used: {reason}."


class TaskError(BioSegmentError, ValueError):
    """A task or its annotation is unusable: ``TaskError(task_id, reason)``."""

    def __str__(self) -> str:
        task_id, reason = self.args
        return f"Task {task_id} cannot be used: {reason}."


class BrushError(BioSegmentError, ValueError):
    """A brush mask cannot be encoded or decoded: ``BrushError(reason)``."""

    def __str__(self) -> str:
        (reason,) = self.args
        return f"The brush mask is unusable: {reason}."


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


class ContractError(BioSegmentError, ValueError):
    """A request is not one that Label Studio sends: ``ContractError(reason)``."""

    def __str__(self) -> str:
        return f"The request cannot be used: {self.args[0]}."
