"""Class names, integers and colours, and the Label Studio labelling configuration that holds them.

References
----------
Label Studio tags: https://labelstud.io/tags/image and https://labelstud.io/tags/brushlabels
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from xml.etree.ElementTree import Element, ParseError, SubElement, indent, tostring

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from biosegment.errors import LabelConfigError

BACKGROUND: Final = "background"
UNKNOWN: Final = 255
"""Mask value of a pixel that nobody has said anything about."""
MAX_CLASSES: Final = UNKNOWN
MAX_CONFIG: Final = 1_000_000
"""Characters of a configuration; one of 254 labels has some 20,000."""
MAX_NAME: Final = 100
"""Characters of a label's name, which also becomes a part of file names."""
NO_BACKGROUND: Final = "it has no label 'background', which sparse annotations need"

# Distinguishable on grey EM images, also for the common kinds of colour blindness (after
# P. Tol, "Colour schemes", SRON/EPS/TN/09-002, bright and vibrant schemes).
PALETTE: Final = ("#EE7733", "#0077BB", "#EE3377", "#009988", "#CCBB44", "#AA3377", "#33BBEE")
BACKGROUND_COLOUR: Final = "#BBBBBB"


@dataclass(frozen=True, slots=True)
class LabelMap:
    """Class names in the order of their integers, and the tags that annotate them."""

    names: tuple[str, ...]
    """Class names; index 0 is always ``"background"``, whether or not it has a brush."""
    colours: tuple[str, ...]
    """One CSS colour a class."""
    has_background_brush: bool
    """Whether the expert can paint background, which makes an annotation sparse."""
    control: str
    """Name of the ``BrushLabels`` tag (``from_name`` of a region)."""
    image: str
    """Name of the ``Image`` tag (``to_name`` of a region)."""
    data_key: str
    """Key of the task data that holds the image address, or the list of them."""

    @classmethod
    def from_config(cls, config: str) -> "LabelMap":
        """Read the first ``BrushLabels`` tag that paints on an ``Image``.

        Parameters
        ----------
        config
            A labelling configuration (XML).

        Raises
        ------
        LabelConfigError
            When it is not well-formed, holds XML entities, is too large, or has no brush for an
            image.
        """
        if len(config) > MAX_CONFIG:
            raise LabelConfigError(f"it has {len(config)} characters, more than {MAX_CONFIG}")
        try:
            root = fromstring(config)
        except (ParseError, DefusedXmlException, ValueError) as exc:
            raise LabelConfigError(f"it is not plain XML: {exc}") from exc
        images = {tag.get("name"): tag for tag in root.iter("Image")}
        for control in root.iter("BrushLabels"):
            image = images.get(control.get("toName"))
            if image is not None:
                return cls._from_tags(control, image)
        raise LabelConfigError("it has no BrushLabels tag on an Image tag")

    @classmethod
    def _from_tags(cls, control: Element, image: Element) -> "LabelMap":
        brushes: dict[str, str] = {}
        for label in control.iter("Label"):
            name = _checked(label.get("value", ""))
            brushes[name] = label.get("background", PALETTE[len(brushes) % len(PALETTE)])
        background = brushes.pop(BACKGROUND, None)
        if not brushes:
            raise LabelConfigError("its BrushLabels tag has no label to segment")
        if len(brushes) >= MAX_CLASSES:
            raise LabelConfigError(f"it has more than {MAX_CLASSES - 1} labels")
        return cls(
            names=(BACKGROUND, *brushes),
            colours=(background or BACKGROUND_COLOUR, *brushes.values()),
            has_background_brush=background is not None,
            control=control.get("name", ""),
            image=image.get("name", ""),
            data_key=(image.get("valueList") or image.get("value") or "").lstrip("$"),
        )

    def index(self, name: str) -> int:
        """Return the integer of a class.

        Raises
        ------
        LabelConfigError
            When the configuration has no such label.
        """
        try:
            return self.names.index(name)
        except ValueError:
            known = ", ".join(self.names)
            raise LabelConfigError(f"it has no label {name!r}, only {known}") from None


def _checked(name: str) -> str:
    if len(name) > MAX_NAME:
        raise LabelConfigError(f"the name of a label has more than {MAX_NAME} characters")
    if any(ord(character) < ord(" ") for character in name):
        raise LabelConfigError(f"the name {name!r} of a label has more than one line, or a tab")
    return name


def labelling_config(labels: Sequence[str], *, slices: bool = False) -> str:
    """Return the labelling configuration of a new project: one brush a label, and an image.

    Parameters
    ----------
    labels
        Label names in order. ``"background"`` among them gives the expert a background brush.
    slices
        Whether a task shows a pager over neighbouring slices (task data ``slices``, and ``hint``
        above it) instead of one image (task data ``image``).

    Raises
    ------
    LabelConfigError
        When there is no label to segment, or one is empty or named twice.
    """
    names = [label.strip() for label in labels]
    if len(set(names)) != len(names) or "" in names:
        raise LabelConfigError(f"every label needs a name of its own, got {', '.join(labels)!r}")
    view = Element("View")
    if slices:
        # The pager opens at the first slice shown, not at the one to label.
        SubElement(view, "Header", {"value": "$hint", "size": "5"})
    source = {"valueList": "$slices"} if slices else {"value": "$image"}
    SubElement(
        view,
        "Image",
        {"name": "image", **source, "zoom": "true", "zoomControl": "true"}
        | {"brightnessControl": "true", "contrastControl": "true", "rotateControl": "false"}
        | {"smoothing": "false", "defaultZoom": "fit"},
    )
    brushes = SubElement(view, "BrushLabels", {"name": "label", "toName": "image"})
    colours = iter(PALETTE * (len(names) // len(PALETTE) + 1))
    for name in names:
        colour = BACKGROUND_COLOUR if name == BACKGROUND else next(colours)
        SubElement(brushes, "Label", {"value": name, "background": colour})
    indent(view)
    config = tostring(view, encoding="unicode")
    LabelMap.from_config(config)
    return config
