"""What every preprocessing step must do: subclass the suite in its test and name the step."""

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biosegment.geometry import Roi, VoxelSize
from importers.base import VolumeInfo, VolumeReader
from importers.preprocessing.parse import parse_steps, step_text
from importers.preprocessing.reader import Preprocessed

SHAPE = (4, 140, 171)


class ArrayReader(VolumeReader):
    """A volume in memory that notes which regions are read of it."""

    def __init__(
        self, volume: npt.NDArray[Any], chunks: tuple[int, int, int] | None = (1, 1, 1)
    ) -> None:
        super().__init__(Path("array"))
        self.volume = volume
        self.regions: list[Roi] = []
        depth, height, width = volume.shape
        size = VoxelSize(40, 5, 4)
        self._info = VolumeInfo((depth, height, width), volume.dtype, size, (), chunks=chunks)

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Refuse nothing."""
        return None

    @property
    def info(self) -> VolumeInfo:
        """What is known of the array; voxels of 40 x 5 x 4 nm."""
        return self._info

    def read(self, roi: Roi) -> npt.NDArray[Any]:
        """Return a copy of a part."""
        self.regions.append(roi)
        return self.volume[roi.slices].copy()

    def close(self) -> None:
        """Do nothing."""


def noisy(shape: tuple[int, int, int] = SHAPE, seed: int = 0) -> npt.NDArray[np.float32]:
    """Return a volume of soft shapes with noise, greys from 30 to 220, no two slices alike."""
    z, y, x = np.indices(shape)
    clean = 125 + 40 * np.sin(x / 11 + z) * np.cos(y / 17) + (30 + 5 * z) * (x + y > 150)
    noise = np.random.default_rng(seed).normal(0, 8, shape)
    volume: npt.NDArray[np.float32] = np.clip(clean + noise, 30, 220).astype(np.float32)
    return volume


def processed(volume: npt.NDArray[Any], steps: str, roi: Roi | None = None) -> npt.NDArray[Any]:
    """Return a volume, or a region of it, after steps given as text."""
    reader = Preprocessed(ArrayReader(volume), parse_steps(steps))
    return reader.read(roi or Roi.whole(reader.info.shape))


class StepContract:
    """Subclass as ``Test…`` with `steps` set."""

    steps: ClassVar[tuple[str, ...]]
    """The step in several settings, as text."""
    tolerance: ClassVar[float] = 0.0
    """By how much blocks may differ from the whole, in greys of the noisy volume."""

    def test_blocks_join_without_seams(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever part is read, in cells of whatever size, it is a part of the whole."""
        for steps in self.steps:
            reader = Preprocessed(ArrayReader(noisy()), parse_steps(steps))
            with monkeypatch.context() as patch:
                self._check_seams(reader, patch)

    def _check_seams(self, reader: Preprocessed, patch: pytest.MonkeyPatch) -> None:
        whole = reader.read(Roi.whole(reader.info.shape))

        @settings(max_examples=5, deadline=None, derandomize=True)
        @given(roi=_regions(reader.info.shape), cell_px=st.integers(30, 200))
        def check(roi: Roi, cell_px: int) -> None:
            patch.setattr("importers.preprocessing.reader._CELL_PX", cell_px)
            part = reader.read(roi)
            np.testing.assert_allclose(part, whole[roi.slices], rtol=0, atol=self.tolerance)

        check()

    def test_changes_something(self) -> None:
        """A step that does nothing would pass all else."""
        for steps in self.steps:
            before = noisy((1, 64, 64)).astype("uint8")
            after = processed(before, steps)
            assert after.shape != before.shape or (after != before).mean() > 0.3

    @pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
    def test_takes_every_type(self, dtype: str) -> None:
        """Integers up to 16 bits are given back as integers, the rest as float32."""
        for steps in self.steps:
            assert processed(noisy((1, 20, 30)).astype(dtype), steps).dtype in (
                dtype if np.dtype(dtype).itemsize <= 2 else "float32",
                "uint8",
                "uint16",
            )

    def test_takes_volumes_of_few_or_equal_pixels(self) -> None:
        """And what is not a number does not spread."""
        for volume in (noisy((1, 2, 2)), np.full((2, 40, 40), 7, "uint8"), _damaged()):
            for steps in self.steps:
                assert np.isfinite(processed(volume, steps)).all()

    def test_is_written_as_it_is_read(self) -> None:
        """What the store keeps makes the same step again."""
        for steps in self.steps:
            (step,) = parse_steps(steps)
            assert parse_steps(step_text(step)) == (step,)
            assert parse_steps(step_text(step).partition("=")[0]) == (type(step)(),)


def _regions(shape: tuple[int, int, int]) -> st.SearchStrategy[Roi]:
    """Return regions of two slices, at least 1 pixel high and wide."""
    depth, height, width = shape

    def sides(size: int) -> st.SearchStrategy[tuple[int, int]]:
        ends = st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True)
        return ends.map(lambda pair: (min(pair), max(pair)))

    return st.builds(
        lambda z, y, x: Roi(z, y[0], x[0], 2, y[1] - y[0], x[1] - x[0]),
        st.integers(0, depth - 2),
        sides(height),
        sides(width),
    )


def _damaged() -> npt.NDArray[np.float32]:
    volume = noisy((1, 50, 50))
    volume[0, 10:20, 10:20] = np.nan
    volume[0, 30, 30] = np.inf
    return volume
