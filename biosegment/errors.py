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


class VolumeNotFoundError(BioSegmentError, LookupError):
    """The data root has no such volume: ``VolumeNotFoundError(name, data_root)``."""

    def __str__(self) -> str:
        name, data_root = self.args
        return f"There is no volume {name!r} under {Path(data_root) / 'volumes'}; import it first."


class VolumeExistsError(BioSegmentError, FileExistsError):
    """Another volume already has this name: ``VolumeExistsError(name, detail)``."""

    def __str__(self) -> str:
        name, detail = self.args
        return f"A different volume is already imported as {name!r} ({detail}); give another --name."


class RegionError(BioSegmentError, ValueError):
    """A region or tile lies outside its volume: ``RegionError(region, shape)``."""

    def __str__(self) -> str:
        region, shape = self.args
        return f"{region} does not fit in a volume of shape {tuple(shape)} (z, y, x)."
