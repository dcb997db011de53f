"""Colours of objects that are numbered, not named."""

from typing import Any

import numpy as np
import numpy.typing as npt
from skimage.color import hsv2rgb

# The golden ratio's fraction: multiples of it spread over the circle of hues, neighbours far apart.
_TURN = (5**0.5 - 1) / 2
_SATURATIONS, _BRIGHTNESSES = np.array([0.9, 0.55, 0.75]), np.array([1.0, 0.85])


def object_colours(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Return the colours of objects, such that those of consecutive numbers differ clearly.

    Parameters
    ----------
    values : ndarray of unsigned integers, shape (N,)
        Numbers of objects; 0 is background, which is black.

    Returns
    -------
    ndarray of uint8, shape (N, 3)
        Red, green and blue.

    Examples
    --------
    >>> object_colours(np.arange(3)).tolist()
    [[0, 0, 0], [98, 132, 217], [175, 255, 64]]
    """
    numbers = np.asarray(values, np.float64)
    parts = [
        numbers * _TURN % 1,
        _SATURATIONS[(numbers % len(_SATURATIONS)).astype(int)],
        _BRIGHTNESSES[(numbers % len(_BRIGHTNESSES)).astype(int)],
    ]
    rgb: npt.NDArray[np.float64] = hsv2rgb(np.stack(parts, axis=-1))
    colours = np.rint(255 * rgb).astype(np.uint8)
    colours[numbers == 0] = 0
    return colours


def object_colour(value: int) -> tuple[int, int, int]:
    """Return the colour of one object."""
    red, green, blue = object_colours(np.array([value]))[0].tolist()
    return (red, green, blue)
