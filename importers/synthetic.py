"""A made-up volume that looks like serial-section electron microscopy of neural tissue.

No recording went into it, and nothing measured on it says anything about real tissue. It is for
trying and testing the programs: cells with dark membranes, some of them bundles of small ones;
mitochondria with a double membrane and cristae, over several slices; round profiles, vesicles and
granules that are none; slices of uneven contrast, blur and noise. One pixel stands for 4.6 nm and
one slice for ten pixels, as in many ssTEM stacks. Grey values alone do not tell mitochondria.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from importers.synthetic_noise import Cells, Image, SmoothNoise, blur, double, ring, stamp

_FRACTION = 0.1
_LIGHT_FRACTION = 0.015
_MARGIN_PX = 60
_NEAR, _FAR = 1.12, 2.0  # where membranes bend around a body, in its radii


@dataclass(frozen=True, slots=True)
class _Body:
    """An ellipsoid that leans: a mitochondrion, or a round profile without content."""

    centre_zyx: tuple[float, float, float]
    """Centre, px in y and x, slices in z."""
    half_zab: tuple[float, float, float]
    """Half axes: slices, then px along and across."""
    angle: float
    """Direction of the long axis, radians."""
    lean_yx: tuple[float, float]
    """Shift from slice to slice, px."""
    lobes: tuple[float, float]
    """Phases of the outline's second and third harmonic, radians."""
    matrix: float
    """Grey inside; 0 for a round profile without content."""
    cristae_px: float
    """Distance of two cristae, px."""

    def scale(self, z: int) -> float:
        """Return the size of its outline in slice `z`, 1 in its middle, 0 where it is absent."""
        t = (z - self.centre_zyx[0]) / self.half_zab[0]
        return math.sqrt(1 - t * t) if abs(t) < 1 else 0.0

    def window(self, z: int, shape: Sequence[int], reach: float) -> tuple[slice, slice]:
        """Return the rows and columns within `reach` radii of it in slice `z`."""
        cy, cx = self.centre(z)
        radius = reach * max(self.half_zab[1:]) * 1.2 + 4
        return (
            slice(max(0, int(cy - radius)), max(0, min(shape[0], int(cy + radius)))),
            slice(max(0, int(cx - radius)), max(0, min(shape[1], int(cx + radius)))),
        )

    def centre(self, z: int) -> tuple[float, float]:
        """Return row and column of its middle in slice `z`."""
        dz = z - self.centre_zyx[0]
        return (
            self.centre_zyx[1] + dz * self.lean_yx[0],
            self.centre_zyx[2] + dz * self.lean_yx[1],
        )

    def radii(self, z: int, y: Image, x: Image) -> tuple[Image, Image, Image]:
        """Return distance from the middle in radii (1 on the outline), and the two axes in px."""
        cy, cx = self.centre(z)
        cos, sin = math.cos(self.angle), math.sin(self.angle)
        along = (x - cx) * cos + (y - cy) * sin
        across = (y - cy) * cos - (x - cx) * sin
        _, a, b = self.half_zab
        around = np.arctan2(across / b, along / a)
        outline = 1 + 0.09 * np.cos(2 * around + self.lobes[0])
        outline += 0.06 * np.cos(3 * around + self.lobes[1])
        radii = np.hypot(along / a, across / b) / (outline * self.scale(z))
        return radii.astype(np.float32), along, across


def synthetic_volume(
    shape: tuple[int, int, int], seed: int = 0
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return a made-up volume and its mitochondria.

    Parameters
    ----------
    shape
        Extent (z, y, x) in voxels, each at least 1.
    seed
        The same seed makes the same volume.

    Returns
    -------
    raw : ndarray of uint8, shape (z, y, x)
        Intensities.
    labels : ndarray of uint8, shape (z, y, x)
        1 in mitochondria (5 to 10 % of a volume that is not tiny), 0 elsewhere.
    """
    tissue = _Tissue(shape, np.random.default_rng(seed))
    raw = np.empty(shape, np.uint8)
    labels = np.empty(shape, np.uint8)
    for z in range(shape[0]):
        raw[z], labels[z] = tissue.section(z, np.random.default_rng((seed, z)))
    return raw, labels


class _Tissue:
    """All that is coherent from slice to slice."""

    def __init__(self, shape: tuple[int, int, int], rng: np.random.Generator) -> None:
        self._shape = shape
        self._bodies = _place_bodies(shape, rng)
        self._large = Cells(rng, shape, pitch_px=135)
        self._small = Cells(rng, shape, pitch_px=52)
        self._bend = [SmoothNoise(rng, shape, (6, 70, 70)) for _ in "yx"]
        self._crinkle = [SmoothNoise(rng, shape, (3, 18, 18)) for _ in "yx"]
        self._oblique = SmoothNoise(rng, shape, (2, 60, 60))
        self._granular = SmoothNoise(rng, shape, (3, 45, 45))
        self._shading = SmoothNoise(rng, shape, (8, 300, 300))
        self._cristae = SmoothNoise(rng, shape, (3, 20, 20))

    def section(
        self, z: int, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Return slice `z` as recorded, and its mitochondria."""
        bodies = [body for body in self._bodies if body.scale(z) > 0.15]
        image = self._cytoplasm(z, bodies, rng)
        labels = np.zeros(image.shape, np.uint8)
        cristae = self._cristae.plane(z)
        for body in bodies:
            _draw(body, z, image, labels, cristae)
        shading = self._shading.plane(z)
        image = blur(image, 0.9) - 125
        image *= 1 + 0.1 * shading + 0.06 * rng.standard_normal()
        image += 125 + 14 * shading[::-1, ::-1] + 8 * rng.standard_normal()
        image += 17 * rng.standard_normal(image.shape, np.float32)
        return np.clip(image, 0, 255).astype(np.uint8), labels

    def _cytoplasm(self, z: int, bodies: list[_Body], rng: np.random.Generator) -> Image:
        edge, (shade, roughness, busy) = self._membranes(z, bodies)
        rough = np.clip(0.2 + 0.9 * roughness + 0.4 * self._granular.plane(z), 0.1, 1.7)
        image: Image = 192 + 30 * (shade - 0.5)
        image[shade > 0.93] -= 75  # glia is dark throughout
        image -= 190 * rough * np.abs(blur(rng.standard_normal(image.shape, np.float32), 1.4))
        inside = edge > 6
        chance = rng.random(image.shape, np.float32)
        image -= 70 * stamp(inside & (chance < 0.003 * rough), ring(1.5, 1.6))
        image -= 70 * stamp(inside & (busy > 0.7) & (chance > 1 - 0.004), ring(4.5, 1.4))
        width = 2.6 + 4 * np.clip(self._oblique.plane(z) - 0.7, 0, None)
        image -= 150 / np.sqrt(width / 2.6) * np.exp(-np.square(edge / width))
        np.maximum(image, 18, out=image)
        return image

    def _membranes(self, z: int, bodies: list[_Body]) -> tuple[Image, Image]:
        """Return the distance to the next membrane in px, and each pixel's cell's three traits.

        Both are worked out on every second row and column, which is enough for what is smooth.
        """
        shape = self._shape[1:]
        axes = np.ogrid[: shape[0] : 2, : shape[1] : 2]
        y, x = (
            (axis + 34 * bend.plane(z, 2) + 4 * crinkle.plane(z, 2)).astype(np.float32)
            for axis, bend, crinkle in zip(axes, self._bend, self._crinkle, strict=True)
        )
        shelter = np.zeros_like(y)
        for body in bodies:
            _bend_around(body, z, y, x, shelter)
        edge, cell = self._large.plane(z, y, x)
        small_edge, small_cell = self._small.plane(z, y, x)
        bundle = self._large.traits[0][cell] > 0.45
        traits = np.where(bundle, self._small.traits[:, small_cell], self._large.traits[:, cell])
        edge = np.where(bundle, np.minimum(edge, small_edge), edge) + 14 * shelter
        return blur(double(edge, shape), 0.7), double(traits, shape)


def _place_bodies(shape: tuple[int, int, int], rng: np.random.Generator) -> list[_Body]:
    """Return bodies that keep apart, as many as fill their fraction of the volume."""
    depth, height, width = shape
    # One in the middle, so that even a tiny volume has something to find.
    first = _random_body(shape, rng, light=False)
    bodies = [replace(first, centre_zyx=(depth / 2, height / 2, width / 2))]
    room = (depth + 8) * (height + 2 * _MARGIN_PX) * (width + 2 * _MARGIN_PX)
    missing = room * np.array([_FRACTION, _LIGHT_FRACTION])
    for _ in range(100 + 4 * int(room / 340_000)):
        kind = int(rng.random() < 0.2)
        body = _random_body(shape, rng, light=bool(kind))
        if missing[kind] > 0 and all(_apart(body, other) for other in bodies):
            bodies.append(body)
            missing[kind] -= 4 / 3 * math.pi * math.prod(body.half_zab)
    return bodies


def _random_body(shape: tuple[int, int, int], rng: np.random.Generator, light: bool) -> _Body:
    depth, height, width = shape
    return _Body(
        centre_zyx=(
            rng.uniform(-4, depth + 4),
            rng.uniform(-_MARGIN_PX, height + _MARGIN_PX),
            rng.uniform(-_MARGIN_PX, width + _MARGIN_PX),
        ),
        half_zab=(rng.uniform(2.5, 7), rng.uniform(26, 58), rng.uniform(20, 32)),
        angle=rng.uniform(0, math.pi),
        lean_yx=(rng.normal(0, 3), rng.normal(0, 3)),
        lobes=(rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)),
        matrix=0 if light else rng.uniform(85, 135),
        cristae_px=rng.uniform(8, 12),
    )


def _apart(one: _Body, other: _Body) -> bool:
    gap = abs(one.centre_zyx[0] - other.centre_zyx[0])
    if gap > one.half_zab[0] + other.half_zab[0]:
        return True
    reach = 1.15 * (max(one.half_zab[1:]) + max(other.half_zab[1:]))
    return math.dist(one.centre_zyx[1:], other.centre_zyx[1:]) > reach


def _bend_around(body: _Body, z: int, y: Image, x: Image, shelter: Image) -> None:
    """Draw the coordinates together inside a body, so that membranes pass around it.

    `shelter` becomes 1 inside and falls to 0 outside, to keep off those that still meet it.
    """
    rows, columns = body.window(z, (2 * y.shape[0], 2 * y.shape[1]), _FAR)
    window = (slice(rows.start // 2, rows.stop // 2), slice(columns.start // 2, columns.stop // 2))
    if y[window].size == 0:
        return
    half_y, half_x = _indices(window)
    radii, _, _ = body.radii(z, 2 * half_y, 2 * half_x)
    pull = np.clip((radii - _NEAR) / (_FAR - _NEAR), 0, 1)
    middle = np.unravel_index(np.argmin(radii), radii.shape)
    np.maximum(shelter[window], 1 - 4 * pull, out=shelter[window])
    for axis in (y[window], x[window]):
        axis[...] = axis[middle] + (axis - axis[middle]) * pull


def _draw(body: _Body, z: int, image: Image, labels: npt.NDArray[np.uint8], cristae: Image) -> None:
    """Draw a body into a slice, and its outline into the labels if it is a mitochondrion."""
    window = body.window(z, image.shape, 1)
    if image[window].size == 0:
        return
    radii, along, across = body.radii(z, *_indices(window))
    depth_px = (1 - radii) * min(body.half_zab[1:]) * body.scale(z)
    membrane = np.exp(-np.square(depth_px / 2))
    if body.matrix:
        phase = 2 * np.pi * across / body.cristae_px + 3 * cristae[window]
        folds = np.sin(phase + np.sin(along / 9)) * (0.6 + 0.5 * cristae[window])
        filling = body.matrix + 36 * folds - 55 * np.exp(-np.square((depth_px - 7) / 1.8))
        filling += 45 * np.exp(-np.square((depth_px - 4) / 1.2))
        inside = depth_px > 0
        image[window] = np.where(inside, filling, image[window])
        labels[window] |= inside
    image[window] -= membrane * np.maximum(image[window] - 30, 0)


def _indices(window: tuple[slice, slice]) -> tuple[Image, Image]:
    y, x = np.mgrid[window].astype(np.float32)
    return y, x
