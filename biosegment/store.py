"""Volumes in the data root: intensities as recorded, what is known of them, and label images.

A volume is an OME-Zarr image. What OME-Zarr has no word for stands under the attribute
``biosegment``, and appears there only once the volume is complete.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
import numpy.typing as npt
import zarr
from zarr.errors import BaseZarrError

from biosegment import ome_zarr, pyramid
from biosegment.errors import LabelsNotFoundError, VolumeNameError, VolumeNotFoundError
from biosegment.geometry import Roi, VoxelSize
from biosegment.linked import Link, LinkedArray

_SUFFIX = ".ome.zarr"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


def volume_path(data_root: Path, name: str) -> Path:
    """Return where the volume `name` lies, or would lie, under a data root.

    Raises
    ------
    VolumeNameError
        If the name could lead out of its folder or would be awkward in addresses.
    """
    check_name(name)
    return Path(data_root) / "volumes" / f"{name}{_SUFFIX}"


def check_name(name: str) -> None:
    """Raise VolumeNameError unless `name` can name a volume or a label image."""
    if not _NAME.fullmatch(name):
        raise VolumeNameError(name)


def volume_names(data_root: Path) -> list[str]:
    """Return the names of the volumes of a data root, in order."""
    found = (Path(data_root) / "volumes").glob(f"*{_SUFFIX}")
    return sorted(path.name.removesuffix(_SUFFIX) for path in found)


class VolumeStore:
    """One image volume and its label images.

    Get one by :meth:`open`, or make one by :meth:`create`, :meth:`write`, :meth:`build_pyramid` and
    :meth:`finish`. Making one can be interrupted: :meth:`mark` notes how far it is, and
    :meth:`resume` takes it up.
    """

    def __init__(self, path: Path, group: zarr.Group) -> None:
        self.path = path
        """The OME-Zarr folder."""
        self.name = path.name.removesuffix(_SUFFIX)
        """Name of the volume in its data root."""
        self._group = group
        self._ours = cast("Mapping[str, Any]", group.attrs.get("biosegment", {}))
        self._image = self._linked() or ome_zarr.image_array(group)
        self.voxel_size = self._read_voxel_size()
        """Edge lengths of a voxel, None where the source does not tell."""

    @classmethod
    def create(
        cls,
        path: Path,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        voxel_size: VoxelSize | None = None,
    ) -> Self:
        """Make an empty volume; it can be opened by name once it is finished.

        Parameters
        ----------
        path
            The folder to make, as :func:`volume_path` names it; it must not exist.
        shape
            Extent (z, y, x) in voxels.
        dtype
            Real number type of the intensities.
        voxel_size
            None where unknown.
        """
        group = zarr.open_group(path, mode="w-", zarr_format=3)
        ome_zarr.create_image(group, path.name.removesuffix(_SUFFIX), shape, dtype, voxel_size)
        return cls(path, group)

    @classmethod
    def create_linked(cls, path: Path, link: Link, voxel_size: VoxelSize | None = None) -> Self:
        """Make a volume whose intensities stay in another file; only :meth:`finish` is left to do.

        Raises
        ------
        LinkBrokenError
            If there is nothing where the link leads.
        """
        LinkedArray(link)
        group = zarr.open_group(path, mode="w-", zarr_format=3)
        edges = list(voxel_size.zyx) if voxel_size else None
        group.attrs["biosegment"] = {"link": link.to_json(), "voxel_size": edges}
        return cls(path, group)

    def _linked(self) -> LinkedArray | None:
        link = self._ours.get("link")
        return LinkedArray(Link.from_json(link)) if link else None

    def _read_voxel_size(self) -> VoxelSize | None:
        if "link" not in self._ours:
            return ome_zarr.read_voxel_size(self._group)
        edges = self._ours["voxel_size"]
        return VoxelSize(*edges) if edges else None

    @classmethod
    def resume(cls, path: Path) -> Self:
        """Return an unfinished volume to go on with; its :attr:`marked` says how far it is.

        Raises
        ------
        VolumeNotFoundError
            If there is none that was marked.
        """
        try:
            store = cls(path, zarr.open_group(path, mode="r+"))
        except (BaseZarrError, FileNotFoundError, KeyError) as exc:
            raise VolumeNotFoundError(path.name, str(path.parent)) from exc
        for partial in path.rglob("*.partial"):
            # What a killed process was writing.
            partial.unlink()
        return store

    def mark(self, done: int, source: Mapping[str, Any]) -> None:
        """Note how much of an unfinished volume is on disk, and what it is made of."""
        self._group.attrs["biosegment"] = {"done": done, "source": dict(source)}

    @property
    def marked(self) -> tuple[int, Mapping[str, Any]]:
        """What was told to :meth:`mark` last; nothing if it was not yet."""
        return self._ours.get("done", 0), self._ours.get("source", {})

    def pyramid_steps(self) -> list[tuple[int, int]]:
        """Return the arguments of all calls of :meth:`build_pyramid`, in order."""
        return pyramid.steps(ome_zarr.image_levels(self._group))

    def build_pyramid(self, level: int, z: int) -> None:
        """Make slice `z` of a coarser level of what was written at the finer one."""
        pyramid.build(ome_zarr.image_levels(self._group), level, z, labels=False)

    def finish(self, window: tuple[float, float], source: Mapping[str, Any]) -> None:
        """Declare the volume complete.

        Parameters
        ----------
        window
            Intensities shown as black and as white, the first below the second.
        source
            What it was made of, given back by :attr:`source`.
        """
        kept = {key: self._ours[key] for key in ("link", "voxel_size") if key in self._ours}
        self._ours = {**kept, "window": list(window), "source": dict(source)}
        self._group.attrs["biosegment"] = self._ours

    @classmethod
    def open(cls, data_root: Path, name: str) -> Self:
        """Return the finished volume `name` of a data root.

        Raises
        ------
        VolumeNotFoundError
            If there is none, or it was never finished.
        LinkBrokenError
            If its intensities are in another file, which is gone.
        """
        try:
            path = volume_path(data_root, name)
            store = cls(path, zarr.open_group(path, mode="r+"))
        except (VolumeNameError, BaseZarrError, FileNotFoundError, KeyError) as exc:
            raise VolumeNotFoundError(name, str(data_root)) from exc
        if "window" not in store._ours:
            raise VolumeNotFoundError(name, str(data_root))
        return store

    @property
    def shape(self) -> tuple[int, int, int]:
        """Extent (z, y, x) in voxels."""
        return cast("tuple[int, int, int]", self._image.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Number type of the intensities."""
        return self._image.dtype

    @property
    def image(self) -> zarr.Array[Any] | LinkedArray:
        """The intensities (z, y, x) as an array on disk; what is not indexed is not read."""
        return self._image

    @property
    def window(self) -> tuple[float, float]:
        """Intensities shown as black and as white."""
        black, white = self._ours["window"]
        return (black, white)

    @property
    def source(self) -> Mapping[str, Any]:
        """What the volume was made of, as told to :meth:`finish`."""
        return cast("Mapping[str, Any]", self._ours["source"])

    def set_voxel_size(self, voxel_size: VoxelSize) -> None:
        """Correct the voxel size of the volume and its label images; no voxel is touched."""
        for name in self.label_names:
            labels = cast("zarr.Group", self._group[f"labels/{name}"])
            ome_zarr.write_voxel_size(labels, voxel_size)
        if "link" in self._ours:
            self._ours = {**self._ours, "voxel_size": list(voxel_size.zyx)}
            self._group.attrs["biosegment"] = self._ours
        else:
            ome_zarr.write_voxel_size(self._group, voxel_size)
        self.voxel_size = voxel_size

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return the recorded intensities of a region.

        Returns
        -------
        ndarray of the store's dtype, shape ``roi.shape`` (z, y, x).

        Raises
        ------
        RegionError
            If the region leaves the volume.
        """
        roi.check_within(self.shape)
        return cast("npt.NDArray[Any]", self._image[roi.slices])

    def write(self, roi: Roi, block: npt.NDArray[Any]) -> None:
        """Replace the intensities of a region by `block`, shape ``roi.shape`` (z, y, x).

        Raises
        ------
        RegionError
            If the region leaves the volume.
        """
        roi.check_within(self.shape)
        if isinstance(self._image, LinkedArray):
            raise ValueError(f"the intensities of {self.name} are in {self._image.link.path}")
        self._image[roi.slices] = block

    def read_unit(self, roi: Roi) -> npt.NDArray[np.float32]:
        """Return a region as float32 in [0, 1]: black to white of the window, clipped.

        Raises
        ------
        RegionError
            If the region leaves the volume.
        """
        return self.to_unit(self.read(roi))

    def to_display(self, array: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
        """Return intensities as 8-bit greys: ``round(255 * unit)``, any shape."""
        if array.dtype in (np.uint8, np.uint16):
            # One look-up per voxel is several times faster than the arithmetic.
            values = np.arange(np.iinfo(array.dtype).max + 1, dtype=array.dtype)
            return _to_grey(self.to_unit(values)).take(array)
        return _to_grey(self.to_unit(array))

    def to_unit(self, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return intensities as :meth:`read_unit` does, any shape."""
        black, white = self.window
        unit: npt.NDArray[np.float32] = np.subtract(array, black, dtype=np.float32)
        unit /= np.float32(white - black)
        np.clip(unit, 0, 1, out=unit)
        # A float image may hold "not a number" where nothing was recorded: black.
        np.nan_to_num(unit, copy=False)
        return unit

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the finished label images."""
        return ome_zarr.listed_labels(self._group)

    def create_labels(
        self, name: str, class_names: Sequence[str], dtype: npt.DTypeLike = np.uint8
    ) -> None:
        """Make an empty label image of the volume's shape, in place of one of that name.

        It is listed, and can be read, once :meth:`finish_labels` is called.

        Parameters
        ----------
        name
            Named by the same rule as a volume.
        class_names
            What the values 1, 2, … mean; 0 is always background and is not named here.
        dtype
            Unsigned integer type.

        Raises
        ------
        VolumeNameError
            If `name` breaks the rule.
        """
        check_name(name)
        if "background" in class_names:
            raise ValueError("background is the value 0 of every label image: name the others")
        ome_zarr.list_labels(self._group, [other for other in self.label_names if other != name])
        labels = self._group.create_group(f"labels/{name}", overwrite=True)
        properties = [
            {"label-value": value, "name": class_name}
            for value, class_name in enumerate(class_names, start=1)
        ]
        image_label = {"properties": properties, "source": {"image": "../../"}}
        ome_zarr.create_image(
            labels, name, self.shape, dtype, self.voxel_size, **{"image-label": image_label}
        )
        labels.attrs["biosegment"] = {"class_names": list(class_names)}

    def write_labels(self, name: str, roi: Roi, block: npt.NDArray[Any]) -> None:
        """Replace the values of a label image in a region, be it finished or not.

        Raises
        ------
        RegionError
            If the region leaves the volume.
        """
        roi.check_within(self.shape)
        ome_zarr.image_array(self._group, f"labels/{name}")[roi.slices] = block

    def finish_labels(self, name: str, source: Mapping[str, Any] | None = None) -> None:
        """Declare a label image complete, made of `source`; makes its coarser levels."""
        levels = ome_zarr.image_levels(self._group, f"labels/{name}")
        for level, z in pyramid.steps(levels):
            pyramid.build(levels, level, z, labels=True)
        attributes = self._group[f"labels/{name}"].attrs
        ours = cast("dict[str, Any]", attributes["biosegment"])
        attributes["biosegment"] = {**ours, "source": dict(source or {})}
        ome_zarr.list_labels(self._group, sorted({*self.label_names, name}))

    def read_labels(self, name: str, roi: Roi) -> npt.NDArray[Any]:
        """Return the values of a label image in a region, shape ``roi.shape`` (z, y, x).

        Raises
        ------
        LabelsNotFoundError
            If there is no finished label image of that name.
        RegionError
            If the region leaves the volume.
        """
        self._check_finished(name)
        roi.check_within(self.shape)
        array = ome_zarr.image_array(self._group, f"labels/{name}")
        return cast("npt.NDArray[Any]", array[roi.slices])

    def class_names(self, name: str) -> tuple[str, ...]:
        """Return what the values 1, 2, … of a label image mean.

        Raises
        ------
        LabelsNotFoundError
            If there is no finished label image of that name.
        """
        return tuple(self._labels_attributes(name)["class_names"])

    def labels_source(self, name: str) -> Mapping[str, Any]:
        """Return what a label image was made of, as told to :meth:`finish_labels`.

        Raises
        ------
        LabelsNotFoundError
            If there is no finished label image of that name.
        """
        return cast("Mapping[str, Any]", self._labels_attributes(name)["source"])

    def _labels_attributes(self, name: str) -> Mapping[str, Any]:
        self._check_finished(name)
        return cast("Mapping[str, Any]", self._group[f"labels/{name}"].attrs["biosegment"])

    def _check_finished(self, name: str) -> None:
        if name not in self.label_names:
            raise LabelsNotFoundError(name, self.name, self.label_names)


def _to_grey(unit: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    greys: npt.NDArray[np.uint8] = np.rint(unit * np.float32(255)).astype(np.uint8)
    return greys
