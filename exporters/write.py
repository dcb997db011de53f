"""Files of a volume or a tile: which writer writes them, what they are called, what classes are."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from PIL import ImageColor

from biosegment.disk import explain_full_disk
from biosegment.errors import SettingsError
from exporters import WRITERS
from exporters.base import LabelClass, Layer, VolumeWriter

IMAGE_FORMAT: Final = "tiff"
"""Of intensities where the format of the labels has no place for them."""
_GREY: Final = (128, 128, 128)


@dataclass(frozen=True, slots=True)
class OutFile:
    """A file to be written, or a folder that counts as one."""

    path: Path
    writer: VolumeWriter
    image: Layer | None
    labels: Layer | None


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and what the user has to know of it."""

    paths: tuple[Path, ...]
    """Files, and folders that count as one."""
    notices: tuple[str, ...]
    """Sentences without their full stops."""


def writer_named(format: str, *, to_edit: bool = False) -> VolumeWriter:
    """Return the writer of a format.

    Parameters
    ----------
    format
        Its name.
    to_edit
        Whether the labels are to be changed in another program and brought back.

    Raises
    ------
    SettingsError
        If there is none, or labels cannot be brought back from it.
    """
    if format not in WRITERS:
        raise SettingsError("--format", f"is one of {', '.join(WRITERS)}, not {format}")
    if to_edit and not WRITERS[format].COMES_BACK:
        reason = f"is {format}, from which labels cannot be brought back: choose another one"
        raise SettingsError("--format", reason)
    return WRITERS[format](to_edit=to_edit)


def out_files(
    writer: VolumeWriter, folder: Path, stem: str, image: Layer | None, labels: Layer | None
) -> list[OutFile]:
    """Return the files that intensities and labels, or one of them, go into; labels first.

    What a file holds stands at the end of its name, ``_image`` or ``_labels``, unless it is both.
    """
    if image and labels and writer.TOGETHER:
        return [OutFile(folder / f"{stem}{writer.LABELS_SUFFIX}", writer, image, labels)]
    files = []
    if labels:
        path = folder / f"{stem}_labels{writer.labels_suffix(labels)}"
        files.append(OutFile(path, writer, None, labels))
    if image:
        other = writer if writer.IMAGE_SUFFIX is not None else WRITERS[IMAGE_FORMAT]()
        path = folder / f"{stem}_image{other.IMAGE_SUFFIX}"
        files.append(OutFile(path, other, image, None))
    return files


def write_files(files: Sequence[OutFile]) -> Written:
    """Write files, or none of them: they move to their places together, whose folders are made.

    Raises
    ------
    ExportError
        If a format cannot hold its part; nothing was read then.
    SettingsError
        If the folder cannot be made.
    DiskFullError
        If they do not fit on the disk.
    """
    for file in files:
        file.writer.check(file.path, file.image, file.labels)
    for folder in {file.path.parent for file in files}:
        make_folder(folder)
    with ExitStack() as together:
        for file in files:
            together.enter_context(file.writer.written(file.path, file.image, file.labels))
    notices = [each for file in files if file.labels for each in file.writer.notices(file.labels)]
    return Written(tuple(file.path for file in files), tuple(notices))


def make_folder(folder: Path) -> None:
    """Make a folder to write into, unless it is there.

    Raises
    ------
    SettingsError
        If that cannot be.
    DiskFullError
        If the disk is full.
    """
    try:
        with explain_full_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError, PermissionError) as exc:
        reason = f"is {folder}, which cannot be made a folder ({exc.strerror}): name another one"
        raise SettingsError("--out", reason) from exc


def label_classes(names: Sequence[str], colours: Sequence[str]) -> tuple[LabelClass, ...]:
    """Return what the values 1, 2, … mean; a colour is one of CSS, grey if it is not known."""
    return tuple(
        LabelClass(value, name, _rgb(colour))
        for value, (name, colour) in enumerate(zip(names, colours, strict=True), start=1)
    )


def _rgb(colour: str) -> tuple[int, int, int]:
    """Return the parts of a colour such as ``#EE7733`` or ``red``."""
    try:
        red, green, blue = ImageColor.getrgb(colour)[:3]
    except ValueError:
        return _GREY
    return (red, green, blue)
