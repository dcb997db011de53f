"""What a TIFF file tells of its acquisition, as text."""

from collections.abc import Iterator, Mapping
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml.ElementTree import fromstring
from tifffile import TiffFile

from importers.tiff_scale import fibics_description

_TAGS = ("Make", "Model", "Software", "DateTime", "Artist")
# What the pages themselves say better, or what is no text.
_IMAGEJ_LAYOUT = (
    *("images", "channels", "slices", "frames", "hyperstack", "mode", "loop", "min", "max"),
    *("order", "ROI", "Overlays", "LUTs", "Ranges", "Plot", "Labels"),
)
_LONGEST = 4000


def tiff_metadata(tiff: TiffFile) -> dict[str, str]:
    """Return what is told of the acquisition by the microscope, OME, ImageJ or plain tags."""
    tags = tiff.pages.first.tags
    found: dict[str, Any] = {name: tags[name].value for name in _TAGS if name in tags}
    if not (tiff.is_ome or tiff.is_imagej or tiff.is_shaped):
        found["ImageDescription"] = tiff.pages.first.description
    found |= _ome(tiff) | _imagej(tiff) | _fei(tiff) | _zeiss(tiff) | _fibics(tiff)
    texts = {key: str(value).strip()[:_LONGEST] for key, value in found.items()}
    return {key: text for key, text in texts.items() if text}


def channel_names(tiff: TiffFile, channels: int) -> tuple[str, ...]:
    """Return the names of the channels, or colour samples; empty where the file does not tell."""
    if tiff.is_ome:
        elements = _ome_elements(tiff, "Channel")
        names = tuple(element.get("Name", "") for element in elements[:channels])
        return names if len(names) == channels and all(names) else ()
    page = tiff.pages.first
    if page.samplesperpixel == channels and page.photometric in (2, 6):
        return ("red", "green", "blue", "alpha", "4", "5")[:channels]
    return ()


def data_bar_notices(tiff: TiffFile) -> tuple[str, ...]:
    """Return a sentence if an FEI image shows a data bar below the specimen, else none."""
    metadata = tiff.fei_metadata or {}
    try:
        rows = int(metadata["PrivateFei"]["DatabarHeight"])
        recorded = int(metadata["Image"]["ResolutionY"])
    except (KeyError, ValueError):
        return ()
    if rows < 1 or recorded + rows != tiff.pages.first.imagelength:
        return ()
    return (f"The lowest {rows} rows are the microscope's data bar, not the specimen",)


def _ome_elements(tiff: TiffFile, name: str) -> list[Element]:
    root = fromstring(tiff.ome_metadata)
    return [element for element in root.iter() if element.tag.endswith(f"}}{name}")]


def _ome(tiff: TiffFile) -> dict[str, Any]:
    if not tiff.is_ome:
        return {}
    image = _ome_elements(tiff, "Image")[0]
    told = {"Name": image.get("Name", "")}
    for element in image:
        name = element.tag.rpartition("}")[2]
        if name in ("AcquisitionDate", "Description"):
            told[name] = element.text or ""
    for instrument in _ome_elements(tiff, "Instrument")[:1]:
        for part in instrument:
            name = part.tag.rpartition("}")[2]
            told |= {f"{name}.{key}": value for key, value in part.attrib.items() if key != "ID"}
    return told


def _imagej(tiff: TiffFile) -> dict[str, Any]:
    metadata = tiff.imagej_metadata or {}
    return {key: value for key, value in metadata.items() if key not in _IMAGEJ_LAYOUT}


def _fei(tiff: TiffFile) -> dict[str, Any]:
    return dict(_flat(tiff.fei_metadata or {}))


def _zeiss(tiff: TiffFile) -> dict[str, Any]:
    named = (value for key, value in (tiff.sem_metadata or {}).items() if key)
    return {entry[0]: " ".join(map(str, entry[1:])) for entry in named}


def _fibics(tiff: TiffFile) -> dict[str, Any]:
    try:
        root = fibics_description(tiff)
    except (ParseError, ValueError):
        return {}
    return {} if root is None else dict(_leaves(root))


def _flat(sections: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in sections.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _leaves(element: Element, prefix: str = "") -> Iterator[tuple[str, str]]:
    for child in element:
        name = f"{prefix}{child.tag}"
        if len(child):
            yield from _leaves(child, f"{name}.")
        elif child.text:
            yield name, f"{child.text.strip()} {child.get('units', '')}"
