"""Volumes with known mitochondria, to try the programs on: a real one, and a made-up one."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pooch
import tifffile

from biosegment.disk import explain_full_disk
from biosegment.errors import DiskFullError, SampleError
from biosegment.geometry import Roi, VoxelSize
from biosegment.progress import Progress, ignore
from importers import vnc
from importers.image_folder import ImageFolderReader
from importers.synthetic import synthetic_volume

__all__ = ["SampleFiles", "fetch_vnc", "synthetic_volume", "vnc_sample", "write_synthetic"]

_TIMEOUT_S = 20
_SYNTHETIC_VOXEL_SIZE = VoxelSize(46, 4.6, 4.6)


@dataclass(frozen=True, slots=True)
class SampleFiles:
    """A volume, and where its mitochondria are."""

    name: str
    """What to call the volume; a made-up one is called synthetic."""
    raw: Path
    """Intensities."""
    labels: Path | None
    """Above 0 in mitochondria, of the same shape; None where nobody labelled them."""


def vnc_sample(
    cache_dir: Path, local_dir: Path | None = None, progress: Progress = ignore
) -> SampleFiles:
    """Return the VNC sample from a local folder if it has it, else as :func:`fetch_vnc` does.

    Parameters
    ----------
    cache_dir
        Where a download is kept.
    local_dir
        A folder that may hold ``raw.tif`` and ``mitochondria.tif``.
    progress
        Told the downloaded files and how many there are in all.

    Raises
    ------
    SampleError, DiskFullError
        As :func:`fetch_vnc`.
    """
    files = _vnc_files(local_dir) if local_dir else None
    return files or fetch_vnc(cache_dir, progress)


def fetch_vnc(
    cache_dir: Path,
    progress: Progress = ignore,
    base_url: str = vnc.BASE_URL,
    sha256: Mapping[str, str] | None = None,
) -> SampleFiles:
    """Return the VNC sample, downloaded into a folder unless it is there.

    Each slice is checked by its SHA-256. What was downloaded before an interruption is kept.

    Parameters
    ----------
    cache_dir
        The folder; made if need be.
    progress
        Told the files that are there and how many there are in all.
    base_url
        Where the slices lie; another place for a mirror.
    sha256
        Their checksums by path below `base_url`; the sample's own when None.

    Raises
    ------
    SampleError
        If the network or the server fails, or a checksum does not match.
    DiskFullError
        If the disk is too small.
    """
    folder = cache_dir / "vnc"
    files = _vnc_files(folder)
    if files is not None:
        return files
    _download(folder, base_url, sha256 or vnc.registry(), progress)
    with explain_full_disk(folder):
        masks = _read_folder(folder / "mitochondria") > 0
        _write_stack(folder / "mitochondria.tif", masks.astype(np.uint8), vnc.VOXEL_SIZE)
        _write_stack(folder / "raw.tif", _read_folder(folder / "raw"), vnc.VOXEL_SIZE)
    return SampleFiles("vnc", folder / "raw.tif", folder / "mitochondria.tif")


def write_synthetic(
    folder: Path, shape: tuple[int, int, int] = (20, 1024, 1024), seed: int = 0
) -> SampleFiles:
    """Write a made-up volume and its mitochondria into a folder, unless they are there.

    Parameters
    ----------
    folder
        The folder; made if need be. Several shapes and seeds can share it.
    shape
        Extent (z, y, x) in voxels.
    seed
        The same seed makes the same volume.

    Raises
    ------
    DiskFullError
        If the disk is too small.
    """
    stem = f"synthetic-{'x'.join(map(str, shape))}-seed{seed}"
    raw, labels = folder / f"{stem}-raw.tif", folder / f"{stem}-mitochondria.tif"
    if not (raw.exists() and labels.exists()):
        intensities, mitochondria = synthetic_volume(shape, seed)
        with explain_full_disk(folder):
            folder.mkdir(parents=True, exist_ok=True)
            _write_stack(labels, mitochondria, _SYNTHETIC_VOXEL_SIZE)
            _write_stack(raw, intensities, _SYNTHETIC_VOXEL_SIZE)
    return SampleFiles("synthetic", raw, labels)


def _vnc_files(folder: Path) -> SampleFiles | None:
    raw, labels = folder / "raw.tif", folder / "mitochondria.tif"
    return SampleFiles("vnc", raw, labels) if raw.is_file() and labels.is_file() else None


def _download(folder: Path, base_url: str, sha256: Mapping[str, str], progress: Progress) -> None:
    pooch.get_logger().setLevel("WARNING")
    remote = pooch.create(folder, base_url, registry=dict(sha256), retry_if_failed=2)
    downloader = pooch.HTTPDownloader(timeout=_TIMEOUT_S)
    progress(0, len(sha256))
    for done, name in enumerate(sha256, start=1):
        try:
            with explain_full_disk(folder):
                remote.fetch(name, downloader=downloader)
        except DiskFullError:
            raise
        except OSError as exc:
            reason = f"{base_url}{name} cannot be downloaded, {type(exc).__name__}"
            raise SampleError("VNC", reason) from exc
        except ValueError as exc:
            reason = f"{base_url}{name} is not the file it should be, its checksum differs"
            raise SampleError("VNC", reason) from exc
        progress(done, len(sha256))


def _read_folder(folder: Path) -> npt.NDArray[Any]:
    with ImageFolderReader(folder) as stack:
        return stack.read(Roi.whole(stack.info.shape))


def _write_stack(path: Path, volume: npt.NDArray[np.uint8], voxel_size: VoxelSize) -> None:
    """Write a volume as an ImageJ TIFF that is whole or not there."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    z, y, x = (edge / 1000 for edge in voxel_size.zyx)
    try:
        tifffile.imwrite(
            partial,
            volume,
            imagej=True,
            resolution=(1 / x, 1 / y),
            metadata={"axes": "ZYX", "spacing": z, "unit": "um"},
            compression="zlib" if volume.max() <= 1 else None,
        )
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
