"""Whole volumes, or parts of them, with one of their label images for other programs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Final

import numpy.typing as npt

from biosegment.errors import SettingsError
from biosegment.geometry import Box, Roi
from biosegment.labels import PALETTE
from biosegment.levels import Level, label_colours, levels, map_levels, map_names
from biosegment.linked import LinkedArray
from biosegment.progress import Report
from biosegment.store import VolumeStore
from exporters.base import LabelClass, Layer, VolumeWriter
from exporters.write import OutFile, Written, label_classes, out_files, write_files, writer_named

NO_LABELS: Final = "none"
"""Stands for no label image."""


@dataclass(frozen=True, slots=True)
class VolumePlan:
    """What of a volume to export, and how."""

    volume: str
    """Its name in the data root."""
    format: str
    """Name of a writer."""
    image: bool = True
    """Whether to write intensities."""
    labels: str | None = None
    """Which label image, or :data:`NO_LABELS`; None for the only one, if there is one."""
    map: str | None = None
    """Which map of the labels to write, in place of intensities and labels."""
    region: Box | None = None
    """Which part, in voxels of the full resolution; None for all of it."""
    level: int = 0
    """How much coarser: 0 is the full resolution."""
    force: bool = False
    """Whether files that are there already may go."""


def export_volume(plan: VolumePlan, folder: Path, data_root: Path, report: Report) -> Written:
    """Write a volume and a label image of it, slice by slice.

    Files are called after the volume, and after region and level where these are not all of it. All
    of them are written, or none.

    Parameters
    ----------
    plan
        What and how.
    folder
        Made if need be.
    data_root
        Where the volume is.
    report
        Told of progress in slices.

    Returns
    -------
    Written
        What was written, labels first.

    Raises
    ------
    SettingsError
        If the format is unknown, nothing is left to write, there are several label images and none
        is chosen, the level does not exist, a file is there already, or the folder cannot be used.
    VolumeNotFoundError, LabelsNotFoundError
        If there is none of that name.
    RegionError
        If the region leaves the volume.
    ExportError
        If the format cannot hold such a volume.
    DiskFullError
        If the disk is too small.
    """
    export = _Export(
        VolumeStore.open(data_root, plan.volume), plan, writer_named(plan.format), report
    )
    check_folder(folder, export.writer, export.store)
    files = out_files(export.writer, folder, export.stem, *export.layers())
    _check_places(files, export)
    return write_files(files)


@dataclass(frozen=True, slots=True)
class _Export:
    store: VolumeStore
    plan: VolumePlan
    writer: VolumeWriter
    report: Report

    @property
    def region(self) -> Roi:
        """What to write, in voxels of the full resolution."""
        shape = self.store.shape
        return self.plan.region.within(shape) if self.plan.region else Roi.whole(shape)

    @property
    def stem(self) -> str:
        """How the names of files begin."""
        parts = [self.store.name, *([self.plan.map] if self.plan.map else [])]
        if self.plan.level:
            parts.append(f"level{self.plan.level}")
        if self.plan.region:
            ranges = zip("zyx", self.region.slices, strict=True)
            parts += [f"{axis}{part.start}-{part.stop}" for axis, part in ranges]
        return "_".join(parts)

    def layers(self) -> tuple[Layer | None, Layer | None]:
        """Return intensities, or a map, and labels, as far as they are to be written."""
        name = self._labels_name()
        if self.plan.map is not None:
            return self._map_layer(name, self.plan.map), None
        image = self._level(levels(self.store)) if self.plan.image else None
        labels = self._level(levels(self.store, name)) if name else None
        if image and labels and image.factors != labels.factors:
            reason = f"is {self.plan.level}, at which {name} has another size than the intensities"
            raise SettingsError("--level", f"{reason}: export each for itself")
        return (
            self._image_layer(image) if image else None,
            self._labels_layer(labels, name) if labels and name else None,
        )

    def _labels_name(self) -> str | None:
        """Return which label image to write; None for none."""
        known = self.store.label_names
        if self.plan.labels is None and len(known) > 1:
            reason = f"is needed, for {self.store.name} has {', '.join(known)}"
            raise SettingsError("--labels", f"{reason}; {NO_LABELS} leaves them out")
        name = self.plan.labels or next(iter(known), NO_LABELS)
        if name != NO_LABELS:
            return name
        if not self.plan.image:
            raise SettingsError("--no-image", "leaves nothing to write: there are no labels either")
        if self.writer.IMAGE_SUFFIX is None:
            reason = f"is {self.plan.format}, which holds labels only, and there are none to write"
            raise SettingsError("--format", reason)
        return None

    def _level(self, found: Sequence[Level]) -> Level:
        """Return the resolution to write."""
        wanted = self.plan.level
        if wanted < len(found):
            return found[wanted]
        if isinstance(found[0].array, LinkedArray):
            reason = f"is {wanted}, and {self.store.name} is linked, which has no coarser levels"
        else:
            reason = f"is {wanted}, and the coarsest of {self.store.name} is {len(found) - 1}"
        raise SettingsError("--level", reason)

    def _image_layer(self, level: Level) -> Layer:
        layer = self._layer(level, self.store.name, "writing intensities")
        return replace(layer, window=self.store.window)

    def _map_layer(self, labels: str | None, which: str) -> Layer:
        known = map_names(self.store, labels) if labels else ()
        if labels is None or which not in known:
            has = ", ".join(known) or "none"
            raise SettingsError("--map", f"is {which}, and the labels have other maps: {has}")
        level = self._level(map_levels(self.store, labels, which))
        # Maps have 8 bits, and the default window is all of them.
        return self._layer(level, f"{labels} {which}", "writing a map")

    def _labels_layer(self, level: Level, name: str) -> Layer:
        return replace(self._layer(level, name, "writing labels"), classes=self._classes(name))

    def _layer(self, level: Level, name: str, stage: str) -> Layer:
        layer = Layer(name, level.shape, level.dtype, level.voxel_size, level.read)
        return _counted(layer.part(level.showing(self.region)), stage, self.report)

    def _classes(self, name: str) -> tuple[LabelClass, ...]:
        names, own = self.store.class_names(name), label_colours(self.store, name)
        palette = islice(cycle(PALETTE), len(names))
        colours = [own.get(value, colour) for value, colour in enumerate(palette, start=1)]
        return label_classes(names, colours)


def _counted(layer: Layer, stage: str, report: Report) -> Layer:
    """Return the layer; whoever reads it tells the progress in slices."""
    depth, height, width = layer.shape
    voxels = 0

    def read(roi: Roi) -> npt.NDArray[Any]:
        nonlocal voxels
        block = layer.read(roi)
        # Large slices are read in parts, and some formats want to see all slices twice.
        voxels += block.size
        again, rest = divmod(voxels - 1, depth * height * width)
        shown = f"{stage}, pass {again + 1}" if again else stage
        report(shown, (rest + 1) // (height * width), depth)
        return block

    return replace(layer, read=read)


def check_folder(folder: Path, writer: VolumeWriter, store: VolumeStore) -> None:
    """Raise SettingsError unless files of a volume may go into a folder."""
    # Endings of folders, such as _png, may well be those of another one.
    suffixes = [each for each in (writer.LABELS_SUFFIX, writer.IMAGE_SUFFIX) if each]
    if folder.name.endswith(tuple(each for each in suffixes if each.startswith("."))):
        reason = (
            f"is {folder}, a file by its name: name a folder, files are called after the volume"
        )
        raise SettingsError("--out", reason)
    if folder.resolve().is_relative_to(store.path.parent.resolve()):
        reason = f"is {folder}, where the volumes of the data folder are: name another folder"
        raise SettingsError("--out", reason)


def _check_places(files: Sequence[OutFile], export: _Export) -> None:
    """Raise SettingsError where writing would replace what must stay."""
    store = export.store
    source = Path(store.image.link.path) if isinstance(store.image, LinkedArray) else None
    for path in (file.path for file in files):
        if source and path.resolve() == source.resolve():
            raise SettingsError("--out", f"has {path.name}, to which {store.name} is linked")
        if path.exists() and not export.plan.force:
            raise SettingsError("--out", f"has {path.name} already, which --force replaces")
