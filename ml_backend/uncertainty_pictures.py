"""Pictures of uncertainty: a slice under a heat map, and the mean of all slices as a strip."""

import io
from typing import Final

import matplotlib as mpl
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml_backend.uncertainty import Plane, View

_COLOURS: Final[NDArray[np.float32]] = mpl.colormaps["plasma"](np.arange(256), bytes=True)[
    :, :3
].astype(np.float32)
"""Perceptually uniform, from violet to yellow, and nowhere as dark as the image below may be."""
_OUTLINE: Final = (0, 255, 255)
STRIP_PX: Final = 72
"""Height of the strip."""
_PAD_PX: Final = 16
"""Above the curve, for the words."""


def picture(view: View, opacity: float, *, outlines: bool) -> bytes:
    """Return a PNG of intensities with their uncertainty over them.

    Where the model is sure, nothing covers the intensities; the less sure it is, the more does.

    Parameters
    ----------
    view
        What to show.
    opacity
        Of the colour where the uncertainty is largest, in [0, 1].
    outlines
        Draw the borders of the labels, below the colours: there the model often is undecided.
    """
    cover = (np.arange(256, dtype=np.float32) * (opacity / 255))[:, None]
    covered, left = cover * _COLOURS, 1 - cover[:, 0]
    below = np.repeat(view.greys[..., None], 3, axis=2)
    if outlines:
        below[_borders(view.labels)] = _OUTLINE
    pixels = below * left[view.uncertainty][..., None]
    pixels += covered[view.uncertainty]
    shown = np.rint(pixels).astype(np.uint8)
    content = io.BytesIO()
    Image.fromarray(shown).save(content, "PNG", compress_level=1)
    return content.getvalue()


def _borders(labels: Plane) -> NDArray[np.bool_]:
    """Return the pixels of a label that touch another value at the right or below, or it them."""
    borders = np.zeros(labels.shape, bool)
    down, right = labels[1:] != labels[:-1], labels[:, 1:] != labels[:, :-1]
    borders[1:] |= down
    borders[:-1] |= down
    borders[:, 1:] |= right
    borders[:, :-1] |= right
    return borders & (labels > 0)


def strip(profile: NDArray[np.float64], z: int, depth: int, width_px: int) -> str:
    """Return an SVG picture of the mean uncertainty over z, as wide as all slices, z marked.

    Parameters
    ----------
    profile : ndarray of float64, shape (N,)
        Mean of slices, or of as many together as fill the depth.
    z
        The slice to mark.
    depth
        Number of slices.
    width_px
        Width of the picture.
    """
    top = max(float(profile.max()), 1e-9)
    bottom, each = STRIP_PX, width_px / len(profile)
    heights = bottom - (bottom - _PAD_PX) * profile / top
    corners = [f"0,{bottom}"]
    for place, y in enumerate(heights.tolist()):
        corners += [f"{place * each:.2f},{y:.1f}", f"{(place + 1) * each:.2f},{y:.1f}"]
    corners.append(f"{width_px},{bottom}")
    x, wide = z * width_px / depth, max(2.0, width_px / depth)
    words = (
        f"mean uncertainty, up to {top:.2f}",
        f"slices 0 to {depth - 1}",
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width_px}" height="{STRIP_PX}" '
        f'font-family="sans-serif" font-size="11" fill="#666">'
        f'<rect width="{width_px}" height="{STRIP_PX}" fill="#f6f7f8"/>'
        f'<polygon points="{" ".join(corners)}" fill="#0077BB" fill-opacity="0.6"/>'
        f'<rect x="{x:.2f}" y="{_PAD_PX}" width="{wide:.2f}" height="{STRIP_PX}" fill="#EE7733"/>'
        f'<text x="4" y="11">{words[0]}</text>'
        f'<text x="{width_px - 4}" y="11" text-anchor="end">{words[1]}</text></svg>'
    )
