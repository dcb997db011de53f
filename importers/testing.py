"""The contract of volume readers, as tests for each reader's own tests to inherit.

.. code-block:: python

    class TestMyReader(ReaderContract):
        reader = MyReader

        def write(self, folder, volume, voxel_size): ...
"""

import math
import pickle
import resource
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import psutil
import pytest

from biosegment.errors import BioSegmentError, RegionError, UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from importers.base import Choice, VolumeInfo, VolumeReader
from importers.detect import open_volume

SHAPE = (5, 37, 53)
VOXEL_SIZE = VoxelSize(40, 5, 4)
_AFFORDABLE_BYTES = 2**26
_MORE_MEMORY_BYTES = 2**29
ROIS = (Roi(0, 0, 0, 5, 37, 53), Roi(2, 3, 4, 1, 10, 20), Roi(1, 36, 0, 3, 1, 53))


class ReaderContract(ABC):
    """What holds for every reader, shown on a volume whose axes all differ."""

    reader: ClassVar[type[VolumeReader]]
    """The class under test."""
    dtypes: ClassVar[tuple[str, ...]] = ("uint8", "uint16")
    """Types that the format stores."""
    voxel_size: ClassVar[VoxelSize | None] = VOXEL_SIZE
    """What comes back of VOXEL_SIZE; None where the format has no place for it."""

    damages: ClassVar[int] = 150
    """How many ways to damage the example; fewer for a slow format."""

    @abstractmethod
    def write(self, folder: Path, volume: npt.NDArray[Any], voxel_size: VoxelSize) -> Path:
        """Write a volume (z, y, x) with an independent library, and return what to open."""

    def cut(self, path: Path) -> None:
        """Take away the second half of the data, as a broken transfer would."""
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])

    def test_gives_back_what_was_written(self, tmp_path: Path) -> None:
        """Shape, type, voxel size and voxels survive."""
        for dtype in self.dtypes:
            volume = example(dtype)
            folder = tmp_path / dtype
            folder.mkdir()
            with open_volume(self.write(folder, volume, VOXEL_SIZE)) as reader:
                assert type(reader) is self.reader
                assert reader.info.shape == SHAPE
                assert reader.info.dtype == volume.dtype
                np.testing.assert_array_equal(reader.read(Roi.whole(SHAPE)), volume)
                if self.voxel_size is None:
                    assert reader.info.voxel_size is None
                else:
                    assert reader.info.voxel_size is not None
                    assert reader.info.voxel_size.zyx == pytest.approx(self.voxel_size.zyx)

    @pytest.mark.parametrize("roi", ROIS)
    def test_reads_a_region_as_a_part_of_the_whole(self, tmp_path: Path, roi: Roi) -> None:
        """A region is what slicing the whole volume gives."""
        volume = example(self.dtypes[0])
        with self.reader(self.write(tmp_path, volume, VOXEL_SIZE)) as reader:
            np.testing.assert_array_equal(reader.read(roi), volume[roi.slices])

    def test_refuses_a_region_that_leaves_the_volume(self, tmp_path: Path) -> None:
        """No padding, no wrapping."""
        path = self.write(tmp_path, example(self.dtypes[0]), VOXEL_SIZE)
        with self.reader(path) as reader, pytest.raises(RegionError):
            reader.read(Roi(4, 0, 0, 2, 1, 1))

    def test_leaves_no_file_open(self, tmp_path: Path) -> None:
        """Neither reading nor failing leaks."""
        path = self.write(tmp_path, example(self.dtypes[0]), VOXEL_SIZE)
        before = _open_below(tmp_path)
        with self.reader(path) as reader:
            reader.read(Roi(0, 0, 0, 1, 1, 1))
        reader.close()
        self.cut(path)
        with pytest.raises(UnreadableFileError), self.reader(path) as reader:
            reader.read(Roi.whole(reader.info.shape))
        assert _open_below(tmp_path) == before == []

    def test_says_what_is_wrong_with_a_file_that_was_cut_off(self, tmp_path: Path) -> None:
        """The error names the file or its folder."""
        path = self.write(tmp_path, example(self.dtypes[0]), VOXEL_SIZE)
        self.cut(path)
        with pytest.raises(UnreadableFileError, match=path.name), self.reader(path) as reader:
            reader.read(Roi.whole(reader.info.shape))

    @pytest.mark.timeout(60)
    def test_damage_anywhere_is_refused_or_harmless(self, tmp_path: Path) -> None:
        """Overwritten or cut, the file gives its volume or an error of ours, in little memory."""
        path = self.write(tmp_path, example(self.dtypes[0]), VOXEL_SIZE)
        refused = 0
        with _little_memory(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for seed in range(self.damages):
                with _damaged(path, np.random.default_rng(seed)):
                    try:
                        with self.reader(path) as reader:
                            part = _affordable(reader.info)
                            assert reader.read(part).shape == part.shape
                    except BioSegmentError:
                        refused += 1
        assert refused
        assert _open_below(tmp_path) == []

    def test_refuses_a_foreign_file(self, tmp_path: Path) -> None:
        """By content, not by name alone."""
        foreign = tmp_path / "notes"
        foreign.write_text("no volume")
        assert self.reader.refusal(foreign)

    def test_pickles(self, tmp_path: Path) -> None:
        """A copy in another process reads the same."""
        volume = example(self.dtypes[0])
        with self.reader(self.write(tmp_path, volume, VOXEL_SIZE)) as reader:
            copy = pickle.loads(pickle.dumps(reader))
        with copy:
            np.testing.assert_array_equal(copy.read(Roi.whole(SHAPE)), volume)


def info_of(path: Path | str, **choice: Any) -> VolumeInfo:  # noqa: ANN401 (fields of Choice)
    """Return what a reader tells of a volume."""
    with open_volume(path, Choice(**choice)) as reader:
        return reader.info


def read_all(path: Path | str, **choice: Any) -> npt.NDArray[Any]:  # noqa: ANN401
    """Return all voxels of a volume, (z, y, x)."""
    with open_volume(path, Choice(**choice)) as reader:
        return reader.read(Roi.whole(reader.info.shape))


def example(dtype: str) -> npt.NDArray[Any]:
    """Return a volume of SHAPE without symmetry, so that a swapped axis shows."""
    z, y, x = np.indices(SHAPE)
    noise = np.random.default_rng(0).integers(0, 20, SHAPE)
    volume: npt.NDArray[Any] = (40 * z + 2 * y + x // 2 + noise).astype(dtype)
    return volume


@contextmanager
def _damaged(path: Path, rng: np.random.Generator) -> Iterator[None]:
    """Change one file at or below a path: most often its header, else its end, anywhere, or cut."""
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    file = files[rng.integers(len(files))]
    whole = file.read_bytes()
    content = bytearray(whole)
    size = len(content)
    start, stop = [(0, 64), (0, 1024), (size - 512, size), (0, size)][rng.integers(4)]
    places = rng.integers(max(0, start), min(stop, size), rng.integers(1, 9))
    for place in places:
        content[place] = rng.choice([0, 1, 0x7F, 0xFF, int(rng.integers(256))])
    if rng.random() < 0.2:
        del content[rng.integers(size) :]
    file.write_bytes(content)
    try:
        yield
    finally:
        file.write_bytes(whole)


def _affordable(info: VolumeInfo) -> Roi:
    """Return the whole volume, or one voxel of a large one."""
    few = math.prod(info.shape) * info.dtype.itemsize <= _AFFORDABLE_BYTES
    return Roi.whole(info.shape if few else (1, 1, 1))


@contextmanager
def _little_memory() -> Iterator[None]:
    """Let the process have little more memory than it has, where the system can be told so.

    This limits addresses, of which threads take many that they never use.
    """
    if sys.platform != "linux":
        yield
        return
    limits = resource.getrlimit(resource.RLIMIT_AS)
    now = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (now + _MORE_MEMORY_BYTES, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def _open_below(folder: Path) -> list[str]:
    files = psutil.Process().open_files()
    return [file.path for file in files if Path(file.path).is_relative_to(folder)]
