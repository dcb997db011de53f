"""What the made-up tissue is drawn with: smooth noise, cells, blur and stamps."""

from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float32]


class SmoothNoise:
    """A smooth random field over a volume, of mean 0 and standard deviation about 1.

    Cubic B-splines on a lattice of normal numbers.

    Parameters
    ----------
    rng
        Where the numbers come from.
    shape
        Extent (z, y, x) in voxels.
    scale_zyx
        Lattice constants in voxels: about how far one has to go to meet another value.
    """

    # The mean square of a cubic B-spline's four weights at a random place.
    _MEAN_SQUARE = 151 / 315

    def __init__(
        self,
        rng: np.random.Generator,
        shape: tuple[int, int, int],
        scale_zyx: tuple[float, float, float],
    ) -> None:
        counts = [int(size / scale) + 5 for size, scale in zip(shape, scale_zyx, strict=True)]
        self._lattice = rng.standard_normal(counts, np.float32) / self._MEAN_SQUARE**1.5
        self._z_scale = scale_zyx[0]
        self._rows = _spline_weights(np.arange(shape[1]) / scale_zyx[1], counts[1])
        self._columns = _spline_weights(np.arange(shape[2]) / scale_zyx[2], counts[2])

    def plane(self, z: int, step: int = 1) -> Image:
        """Return the field in slice `z` at each `step`-th row and column, shape (y, x)."""
        depth = self._lattice.shape[0]
        weights = _spline_weights(np.array([z / self._z_scale]), depth)[0]
        lattice = np.tensordot(weights, self._lattice, axes=1)
        plane: Image = self._rows[::step] @ lattice @ self._columns[::step].T
        return plane


class Cells:
    """A partition of a volume into cells about one seed each, the seeds drifting along z.

    A power diagram: seeds of more weight own larger cells.

    Parameters
    ----------
    rng
        Where seeds, weights and traits come from.
    shape
        Extent (z, y, x) in voxels.
    pitch_px
        Mean distance of two seeds, px.
    """

    _PAD = 3

    def __init__(
        self, rng: np.random.Generator, shape: tuple[int, int, int], pitch_px: float
    ) -> None:
        self._pitch = pitch_px
        self._grid = tuple(int(size / pitch_px) + 2 * self._PAD + 1 for size in shape[1:])
        count = self._grid[0] * self._grid[1]
        self._jitter = rng.uniform(0.12, 0.88, (2, count)).astype(np.float32)
        self._drift = rng.uniform(-0.02, 0.02, (2, count)).astype(np.float32)
        self._phase = rng.uniform(0, 2 * np.pi, count).astype(np.float32)
        self._weight = rng.uniform(-0.12, 0.12, count).astype(np.float32)
        self.traits = rng.random((3, count), np.float32)
        """Three numbers in [0, 1) for each cell, to tell cells apart by."""

    def plane(self, z: int, y: Image, x: Image) -> tuple[Image, npt.NDArray[np.int32]]:
        """Return the distance to the next cell border in px, and the cell's number.

        Parameters
        ----------
        z
            Slice.
        y, x
            Where to look, px; float32 of one shape.
        """
        v, u = y / self._pitch + self._PAD, x / self._pitch + self._PAD
        row = np.clip(v.astype(np.int32), 1, self._grid[0] - 2)
        column = np.clip(u.astype(np.int32), 1, self._grid[1] - 2)
        sway = 0.12 * np.sin(0.25 * z + self._phase)
        index = np.arange(self._phase.size)
        seed_v = index // self._grid[1] + self._jitter[0] + sway + self._drift[0] * z
        seed_u = index % self._grid[1] + self._jitter[1] - sway + self._drift[1] * z
        first = np.full(v.shape, np.inf, np.float32)
        second = first.copy()
        cell = np.zeros(v.shape, np.int32)
        middle = row * np.int32(self._grid[1]) + column
        for step in (-self._grid[1], 0, self._grid[1]):
            for side in (-1, 0, 1):
                seed = middle + np.int32(step + side)
                power = np.square(v - seed_v.astype(np.float32)[seed])
                power += np.square(u - seed_u.astype(np.float32)[seed])
                power -= self._weight[seed]
                np.minimum(second, np.maximum(first, power), out=second)
                np.copyto(cell, seed, where=power < first)
                np.minimum(first, power, out=first)
        # For seeds one pitch apart, this is the distance to the plane between them.
        return (second - first) * np.float32(self._pitch / 2), cell


def double(image: npt.NDArray[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """Return an image of every second row and column filled up to `shape` with copies."""
    return image.repeat(2, axis=-2).repeat(2, axis=-1)[..., : shape[0], : shape[1]]


def blur(image: Image, sigma_px: float) -> Image:
    """Return an image blurred by a Gaussian, its edges repeated outwards."""
    reach = int(np.ceil(3 * sigma_px))
    taps = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / sigma_px)).astype(np.float32)
    taps /= taps.sum()
    for axis in (0, 1):
        padded = np.pad(
            image, [(reach, reach) if one == axis else (0, 0) for one in (0, 1)], "edge"
        )
        size = image.shape[axis]
        blurred = np.zeros_like(image)
        for start, tap in enumerate(taps):
            part = padded[start : start + size] if axis == 0 else padded[:, start : start + size]
            blurred += tap * part
        image = blurred
    return image


def stamp(places: npt.NDArray[np.bool_], pattern: Image) -> Image:
    """Return the largest of `pattern` centred on each of the places, 0 elsewhere."""
    height, width = pattern.shape
    stamped = np.zeros((places.shape[0] + height, places.shape[1] + width), np.float32)
    y, x = np.nonzero(places)
    for dy, dx in np.ndindex(height, width):
        # One offset never meets a pixel twice, so plain indexing takes every place.
        stamped[y + dy, x + dx] = np.maximum(stamped[y + dy, x + dx], pattern[dy, dx])
    top, left = height // 2, width // 2
    return stamped[top : top + places.shape[0], left : left + places.shape[1]]


def ring(radius_px: float, width_px: float) -> Image:
    """Return a ring's picture, 1 on its line, to stamp with; radius 0 is a dot."""
    reach = int(np.ceil(radius_px + 2 * width_px))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    profile: Image = np.exp(-np.square((np.hypot(y, x) - radius_px) / width_px)).astype(np.float32)
    return profile


def _spline_weights(positions: npt.NDArray[np.float64], count: int) -> Image:
    """Return the cubic B-spline weights of a lattice at some positions, shape (position, count)."""
    whole = np.floor(positions).astype(int)
    t = positions - whole
    weights = np.zeros((positions.size, count), np.float32)
    index = np.arange(positions.size)
    weights[index, whole] = (1 - t) ** 3 / 6
    weights[index, whole + 1] = (3 * t**3 - 6 * t**2 + 4) / 6
    weights[index, whole + 2] = (-3 * t**3 + 3 * t**2 + 3 * t + 1) / 6
    weights[index, whole + 3] = t**3 / 6
    return weights
