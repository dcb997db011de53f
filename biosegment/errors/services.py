"""Errors of the processes that BioSegment starts."""

from biosegment.errors.base import BioSegmentError


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


class StackRunningError(BioSegmentError):
    """A stack already runs on this data folder: ``StackRunningError(data_root)``."""

    def __str__(self) -> str:
        return f"A stack is already running on the data folder {self.args[0]}; stop that one first."
