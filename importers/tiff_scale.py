"""Voxel sizes that OME-TIFF and ImageJ files tell, in nanometres."""

from xml.etree.ElementTree import ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring
from tifffile import TiffFile

from biosegment.geometry import VoxelSize, nm_per_unit


def tiff_voxel_size(tiff: TiffFile) -> VoxelSize | None:
    """Return the voxel size of the first image, None if it is absent, partial or impossible.

    References
    ----------
    .. [1] OME data model, ``Pixels``: sizes are in micrometres where no unit is given.
    .. [2] ImageJ, ``ij.io.FileInfo``: the resolution tags count pixels per ``unit``; the slice
       ``spacing`` is in the same unit, and left out when it is 1.
    """
    edges = _ome_edges(tiff) if tiff.is_ome else _imagej_edges(tiff) if tiff.is_imagej else None
    if edges is None:
        return None
    try:
        return VoxelSize(*edges)
    except ValueError:
        return None


def _ome_edges(tiff: TiffFile) -> list[float] | None:
    try:
        root = fromstring(tiff.ome_metadata or "")
        pixels = next(element for element in root.iter() if element.tag.endswith("}Pixels"))
        return [
            float(pixels.attrib[f"PhysicalSize{axis}"])
            * _nm(pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm"))
            for axis in "ZYX"
        ]
    except (ParseError, DefusedXmlException, StopIteration, KeyError, ValueError):
        return None


def _imagej_edges(tiff: TiffFile) -> list[float] | None:
    metadata = tiff.imagej_metadata or {}
    tags = tiff.pages.first.tags
    try:
        nm = _nm(str(metadata["unit"]))
        rows, columns = (tags[name].value for name in ("YResolution", "XResolution"))
        spacing = float(metadata.get("spacing", 1))
        return [spacing * nm, rows[1] / rows[0] * nm, columns[1] / columns[0] * nm]
    except (KeyError, ValueError, TypeError, ZeroDivisionError):
        return None


def _nm(unit: str) -> float:
    nm = nm_per_unit(unit)
    if nm is None:
        raise ValueError(f"{unit!r} is no length")
    return nm
