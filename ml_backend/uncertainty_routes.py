"""The page that shows how undecided a segmentation is, where an expert picks what to label next."""

from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from flask import Blueprint, Response, abort, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as BaseResponse

from biosegment.geometry import Roi
from ml_backend.picked_tile import TilePicker
from ml_backend.routes import project_title, services
from ml_backend.uncertainty import UncertainVolume
from ml_backend.uncertainty_pictures import STRIP_PX, picture, strip

pages = Blueprint("uncertainty", __name__)

SIDE_PX: Final = 600
"""Longer side of a slice on the page. Browsers tell where it was clicked in these pixels."""
SUGGESTED: Final = 5
"""Slices, and tiles of a slice, that are named."""
OPACITIES: Final = (0, 25, 50, 75, 100)


@dataclass(frozen=True, slots=True)
class Look:
    """What a page shows: the fields of its addresses."""

    labels: str
    """The segmentation."""
    z: int
    """The slice."""
    opacity: int = 75
    """Of the colours, in percent."""
    outlines: int = 1
    """Whether the borders of the labels are drawn."""

    @classmethod
    def of_request(cls, volume: UncertainVolume) -> "Look":
        """Return what is asked for; the slice with the highest mean if none is."""
        opacity, outlines = _number("opacity", 100), _number("outlines", 1)
        depth = volume.store.shape[0]
        z = _number("z", depth - 1)
        if z is None and (at := _clicked("strip", (1, SIDE_PX))):
            z = int(at[1] * depth)
        look = cls(volume.labels, volume.worst_slices(1)[0] if z is None else z)
        return replace(
            look,
            opacity=look.opacity if opacity is None else opacity,
            outlines=look.outlines if outlines is None else outlines,
        )

    def but(self, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 (numbers and names)
        """Return the fields of an address that shows the same but for some of them."""
        return asdict(self) | changes


@pages.get("/projects/<int:number>/uncertainty/<volume>")
def page(number: int, volume: str) -> str:
    """Show a slice, where in the volume the model is undecided, and the tile at a spot."""
    known, shown = services(), _volume(volume)
    look, spot = Look.of_request(shown), _spot(shown)
    title = project_title(number)
    picker = TilePicker(known.client, number, shown.store)
    picked = None if spot is None else picker.at(look.z, *spot)
    return render_template(
        "uncertainty.html",
        title=title,
        number=number,
        volume=shown,
        look=look,
        size=_size(shown),
        scale=SIDE_PX / max(shown.store.shape[1:]),
        slices=shown.worst_slices(SUGGESTED),
        tiles=shown.worst_tiles(picker.grid(look.z), SUGGESTED),
        spot=spot,
        picked=picked,
        added=request.args.get("added") == "1",
        mean=picked and shown.mean(picked.tile),
        opacities=OPACITIES,
        strip_px=(STRIP_PX, SIDE_PX),
        url=known.settings.label_studio_page,
    )


@pages.get("/projects/<int:number>/uncertainty/<volume>/slice.png")
def slice_png(number: int, volume: str) -> Response:
    """Draw a slice, or a part of it, with its uncertainty over it."""
    shown = _volume(volume)
    look = Look.of_request(shown)
    _, height, width = shown.store.shape
    region = Roi(
        look.z,
        _number("y", height - 1) or 0,
        _number("x", width - 1) or 0,
        1,
        _number("height", height, least=1) or height,
        _number("width", width, least=1) or width,
    )
    content = picture(shown.view(region), look.opacity / 100, outlines=look.outlines > 0)
    return Response(content, mimetype="image/png")


@pages.get("/projects/<int:number>/uncertainty/<volume>/strip.svg")
def strip_svg(number: int, volume: str) -> Response:
    """Draw the mean uncertainty over all slices."""
    shown = _volume(volume)
    look = Look.of_request(shown)
    content = strip(shown.profile, look.z, shown.store.shape[0], SIDE_PX)
    return Response(content, mimetype="image/svg+xml")


@pages.post("/projects/<int:number>/uncertainty/<volume>")
def label_tile(number: int, volume: str) -> BaseResponse:
    """Make a task of the tile at a spot, unless there is one, and show it."""
    known, shown = services(), _volume(volume)
    look = Look.of_request(shown)
    y, x = _spot(shown) or abort(404, "No spot was picked.")
    picker = TilePicker(known.client, number, shown.store)
    with known.jobs.adding(number):
        picked = picker.at(look.z, y, x)
        if picked.task is None:
            picker.add(picked.tile, known.settings, known.predictions)
    fields = look.but(y=y, x=x, added=int(picked.task is None))
    here = url_for(".page", number=number, volume=volume, **fields)
    return redirect(here, 303)


def _volume(name: str) -> UncertainVolume:
    labels = request.values.get("labels") or None
    return UncertainVolume.open(services().settings.data_root, name, labels)


def _number(key: str, most: int, least: int = 0) -> int | None:
    """Return a number that was asked for; None if it was left out."""
    text = request.values.get(key, "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        abort(404, f"{key} is a whole number from {least} to {most}, not {text!r}.")
    return int(text)


def _clicked(name: str, size_px: tuple[int, int]) -> tuple[float, float] | None:
    """Return where a picture of a form was clicked, as shares of its height and width, below 1."""
    if f"{name}.x" not in request.values:
        return None
    at = (_number(f"{name}.y", 2**16) or 0, _number(f"{name}.x", 2**16) or 0)
    y, x = (min(place, side - 1) / side for place, side in zip(at, size_px, strict=True))
    return y, x


def _spot(shown: UncertainVolume) -> tuple[int, int] | None:
    """Return the row and column that were picked, or clicked in the picture of the slice."""
    _, height, width = shown.store.shape
    if at := _clicked("spot", _size(shown)):
        return int(at[0] * height), int(at[1] * width)
    y, x = _number("y", height - 1), _number("x", width - 1)
    return None if y is None or x is None else (y, x)


def _size(shown: UncertainVolume) -> tuple[int, int]:
    """Return height and width of a slice on the page, px."""
    _, height, width = shown.store.shape
    scale = SIDE_PX / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))
