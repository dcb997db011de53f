"""How large the voxels of a TIFF file are, as far as it tells, in nanometres.

The last one to have written the file is asked first: the description by OME or ImageJ tells of the
image as it is now, the tags of a microscope of the image as it was recorded.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median
from xml.etree.ElementTree import Element, ParseError

from defusedxml.ElementTree import fromstring
from tifffile import TiffFile

from biosegment.geometry import VoxelSize, nm_per_unit

FIBICS_TAG = 51023
# What is met on the way to a size that is not there; the parsers' own errors are among them.
_ABSENT = (
    ArithmeticError,
    AttributeError,
    LookupError,
    ParseError,
    StopIteration,
    TypeError,
    ValueError,
)
_NM_PER_RESOLUTION_UNIT = {2: 2.54e7, 3: 1e7}
# How much the distances of slices may vary before it is told.
_EVEN = 0.1
# Software that knows no better writes the dots per inch of a screen or printer: 350 to 10 µm.
_LARGEST_PIXEL_NM = 5000


@dataclass(frozen=True, slots=True)
class TiffScale:
    """What a TIFF file tells of the size of its voxels."""

    y: float
    """Distance of two rows, nm."""
    x: float
    """Distance of two columns, nm."""
    z: float | None = None
    """Distance of two slices, nm; None where the file does not tell."""
    depth: float | None = None
    """Where a single slice lies in its series, nm; None where the file does not tell."""

    @property
    def voxel_size(self) -> VoxelSize | None:
        """The voxel size, None if it is told only in part."""
        return None if self.z is None else VoxelSize(self.z, self.y, self.x)

    @property
    def notices(self) -> tuple[str, ...]:
        """What its owner should know: a pixel size that makes no voxel size."""
        if self.z is not None:
            return ()
        return (
            f"Its pixels are {self.y:g} x {self.x:g} nm (y, x); how far apart its slices lie is "
            "not said",
        )


def tiff_scale(tiff: TiffFile) -> TiffScale | None:
    """Return the scale of the first image, None if it is absent or impossible.

    References
    ----------
    .. [1] OME data model, ``Pixels``: sizes are in micrometres where no unit is given.
    .. [2] ImageJ, ``ij.io.FileInfo``: the resolution tags count pixels per ``unit``; the slice
       ``spacing`` is in the same unit. It is left out when it is 1, which it also is as long as
       nobody has set it: so it is taken for unknown then.
    .. [3] FEI and Thermo Fisher, tags 34680 and 34682: ``PixelWidth`` in metres.
    .. [4] Zeiss SmartSEM, tag 34118: ``Image Pixel Size`` with its unit.
    .. [5] Zeiss Atlas (Fibics), tag 51023: the steps of the scan along a row, U, and from row to
       row, V, as vectors in micrometres; the depth of the slice, ``ZPos``, likewise.
    .. [6] TIFF 6.0, ``XResolution``, where it is too fine for a screen or a printer.
    """
    for read in (_ome, _imagej, _fibics, _fei, _zeiss, _resolution):
        try:
            scale = read(tiff)
        except _ABSENT:
            continue
        if _possible(scale.y) and _possible(scale.x):
            return scale if _possible(scale.z) else replace(scale, z=None)
    return None


def slice_distance(depths: Sequence[float | None]) -> tuple[float | None, tuple[str, ...]]:
    """Return the usual distance of slices that lie at `depths` (nm), and what is odd about it.

    It is None where a depth is not known, or all are the same.
    """
    known = [depth for depth in depths if depth is not None]
    distances = [abs(after - before) for before, after in pairwise(known)]
    usual = median(distances) if distances and len(known) == len(depths) else 0
    if usual <= 0:
        return None, ()
    if all(abs(distance - usual) <= _EVEN * usual for distance in distances):
        return usual, ()
    return usual, (
        f"The distances of its slices vary from {min(distances):g} to {max(distances):g} nm; "
        f"{usual:g} nm, the median, counts",
    )


def fibics_description(tiff: TiffFile) -> Element | None:
    """Return what Zeiss Atlas wrote of the first image, None where it did not.

    Raises
    ------
    ParseError, ValueError
        If it is damaged, or tries to expand without bounds.
    """
    tag = tiff.pages.first.tags.get(FIBICS_TAG)
    return None if tag is None else fromstring(str(tag.value).rstrip("\0 \r\n"))


def _possible(edge: float | None) -> bool:
    return edge is not None and math.isfinite(edge) and edge > 0


def _nm(unit: str) -> float:
    nm = nm_per_unit(unit)
    if nm is None:
        raise ValueError(f"{unit!r} is no length")
    return nm


def _ome(tiff: TiffFile) -> TiffScale:
    root = fromstring(tiff.ome_metadata)
    pixels = next(element for element in root.iter() if element.tag.endswith("}Pixels"))
    sizes = {
        axis: float(pixels.attrib[name]) * _nm(pixels.attrib.get(f"{name}Unit", "µm"))
        for axis in "ZYX"
        if (name := f"PhysicalSize{axis}") in pixels.attrib
    }
    return TiffScale(sizes["Y"], sizes["X"], sizes.get("Z"))


def _imagej(tiff: TiffFile) -> TiffScale:
    metadata = tiff.imagej_metadata or {}
    unit = str(metadata["unit"])
    per_y, per_x = (_resolution_of(tiff, axis) for axis in "YX")
    y = _nm(str(metadata.get("yunit", unit))) / per_y
    z = None
    if "spacing" in metadata:
        z = float(metadata["spacing"]) * _nm(str(metadata.get("zunit", unit)))
    return TiffScale(y, _nm(unit) / per_x, z)


def _fibics(tiff: TiffFile) -> TiffScale:
    root = fibics_description(tiff)
    if root is None:
        raise LookupError(FIBICS_TAG)
    page = tiff.pages.first
    for name, size in (("Width", page.imagewidth), ("Height", page.imagelength)):
        if int(root.findtext(f"Image/{name}", size)) != size:
            raise ValueError("the tag tells of an image of another size")
    x, y = (
        1000 * math.hypot(*(float(root.findtext(f"Scan/{step}{axis}", "")) for axis in "xy"))
        for step in "UV"
    )
    depth = root.findtext("ATLAS3D/Slice/ZPos")
    return TiffScale(y, x, depth=None if depth is None else 1000 * float(depth))


def _fei(tiff: TiffFile) -> TiffScale:
    metadata = tiff.fei_metadata or {}
    width = tiff.pages.first.imagewidth
    if metadata.get("Image", {}).get("ResolutionX", width) != width:
        raise ValueError("the tag tells of an image of another size")
    scan = metadata["Scan"]
    return TiffScale(1e9 * float(scan["PixelHeight"]), 1e9 * float(scan["PixelWidth"]))


def _zeiss(tiff: TiffFile) -> TiffScale:
    metadata = tiff.sem_metadata or {}
    _, size, unit = metadata.get("ap_image_pixel_size") or metadata["ap_pixel_size"]
    return TiffScale(float(size) * _nm(unit), float(size) * _nm(unit))


def _resolution(tiff: TiffFile) -> TiffScale:
    nm = _NM_PER_RESOLUTION_UNIT[int(tiff.pages.first.tags["ResolutionUnit"].value)]
    y, x = (nm / _resolution_of(tiff, axis) for axis in "YX")
    if max(y, x) > _LARGEST_PIXEL_NM:
        raise ValueError("these are dots per inch")
    return TiffScale(y, x)


def _resolution_of(tiff: TiffFile, axis: str) -> float:
    pixels, lengths = tiff.pages.first.tags[f"{axis}Resolution"].value
    return float(pixels) / float(lengths)
