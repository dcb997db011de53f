"""Errors of files, volumes and what lies in them."""

from pathlib import Path

from biosegment.errors.base import BioSegmentError


class SourceNotFoundError(BioSegmentError, LookupError):
    """Nothing lies at the path that was to be imported: ``SourceNotFoundError(path)``."""

    def __str__(self) -> str:
        (path,) = self.args
        return f"There is no file or folder {path}; check the path."


class SourceUnreachableError(BioSegmentError):
    """What an address names cannot be had: ``SourceUnreachableError(address, reason)``."""

    def __str__(self) -> str:
        address, reason = self.args
        return f"{address} cannot be reached: {reason}."


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


class UncertaintyError(BioSegmentError, LookupError):
    """No segmentation tells what it is unsure of: ``UncertaintyError(volume, wanted, known)``."""

    def __str__(self) -> str:
        volume, wanted, known = self.args
        if not known:
            return (
                f"No labels of the volume {volume!r} tell how sure they are; make some by "
                f"`biosegment segment {volume} --uncertainty`."
            )
        among = f"choose with --uncertainty-of among {', '.join(known)}"
        if wanted is None:
            return f"Several labels of the volume {volume!r} tell how sure they are: {among}."
        return (
            f"The volume {volume!r} has no labels {wanted!r} that tell how sure they are: {among}."
        )


class LabelsBusyError(BioSegmentError, BlockingIOError):
    """Another process makes these labels: ``LabelsBusyError(name, volume)``."""

    def __str__(self) -> str:
        name, volume = self.args
        return (
            f"The labels {name!r} of the volume {volume!r} are being made by another process; wait "
            "for it, or choose another --name."
        )


class SegmentationExistsError(BioSegmentError, FileExistsError):
    """A label image of that name is there: ``SegmentationExistsError(name, volume)``."""

    def __str__(self) -> str:
        name, volume = self.args
        return (
            f"The volume {volume!r} has labels {name!r} already; choose another --name, or replace "
            "them by --overwrite."
        )


class ObjectsError(BioSegmentError, ValueError):
    """Objects cannot be found or measured: ``ObjectsError(reason)``, a clause of its own."""

    def __str__(self) -> str:
        (reason,) = self.args
        return f"The objects cannot be told apart or measured: {reason}."


class ExportError(BioSegmentError, ValueError):
    """A file cannot be written: ``ExportError(path, reason)``."""

    def __str__(self) -> str:
        path, reason = self.args
        return f"{path} cannot be written: {reason}; choose another --format."


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


class VolumeNameError(BioSegmentError, ValueError):
    """A volume cannot be called this: ``VolumeNameError(name)``."""

    def __str__(self) -> str:
        (name,) = self.args
        return (
            f"{name!r} cannot name a volume or its labels; use up to 100 letters, digits, dots, "
            "dashes or underscores, beginning with a letter or digit."
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


class SampleError(BioSegmentError):
    """A sample volume cannot be had: ``SampleError(name, reason)``."""

    def __str__(self) -> str:
        name, reason = self.args
        return f"The sample {name} cannot be had ({reason})."
