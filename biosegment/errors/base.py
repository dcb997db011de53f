"""The root of all errors, and those that any part may raise."""


class BioSegmentError(Exception):
    """Root of all errors that the command line and the HTTP server show as one sentence."""


class SettingsError(BioSegmentError, ValueError):
    """A setting is missing or unusable: ``SettingsError(name, reason)``."""

    def __str__(self) -> str:
        name, reason = self.args
        return f"The setting {name} {reason}."


class DiskFullError(BioSegmentError, OSError):
    """The disk takes no more: ``DiskFullError(folder, what the system said)``."""

    def __str__(self) -> str:
        folder, reason = self.args
        return (
            f"Nothing more can be written to {folder} ({reason}); free some space or choose "
            "another data folder, then try again."
        )
