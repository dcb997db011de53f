"""The contract of volume writers, as tests for each writer's own tests to inherit.

.. code-block:: python

    class TestMyWriter(WriterContract):
        writer = MyWriter

        def image(self, path): ...
        def labels(self, path): ...
"""

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest

from biosegment.errors import DiskFullError, ExportError
from biosegment.geometry import Roi, VoxelSize
from exporters.base import LabelClass, Layer, VolumeWriter, writable_dtype

SHAPE = (5, 37, 53)
VOXEL_SIZE = VoxelSize(40, 5, 4)
CLASSES = (
    LabelClass(1, "mitochondria", (238, 119, 51)),
    LabelClass(2, "vesicles", (0, 119, 187)),
    LabelClass(3, "unused", (238, 51, 119)),
)
Found = tuple[npt.NDArray[Any], VoxelSize | None]
"""Voxels (z, y, x) and their size."""


class WriterContract(ABC):
    """What holds for every writer, shown on a volume whose axes all differ."""

    writer: ClassVar[type[VolumeWriter]]
    """The class under test."""
    keeps_voxel_size: ClassVar[bool] = True
    """Whether the format has a place for it."""
    keeps_names: ClassVar[bool] = True
    """Whether the format has a place for the names of classes."""

    @abstractmethod
    def image(self, path: Path) -> Found:
        """Return the intensities in a file, read by an independent library."""

    @abstractmethod
    def labels(self, path: Path) -> Found:
        """Return the label values in a file, read by an independent library."""

    def names(self, path: Path) -> dict[int, str]:
        """Return what the values in a file mean, read by an independent library."""
        raise NotImplementedError

    def test_labels_survive(self, tmp_path: Path) -> None:
        """Every value at its place, with voxel size and names."""
        for dtype in self.writer.LABELS_DTYPES:
            layer = layer_of(example_labels(dtype), CLASSES)
            path = self._write(tmp_path, None, layer)
            found, size = self.labels(path)
            np.testing.assert_array_equal(found, example_labels(dtype))
            assert np.can_cast(dtype, found.dtype, "safe")
            self._check_size(size)
            if self.keeps_names:
                assert self.names(path) == {each.value: each.name for each in CLASSES}

    def test_instances_survive(self, tmp_path: Path) -> None:
        """Hundreds of values that number objects, of every type that the format takes for them."""
        for dtype in ("uint16", "uint32"):
            objects = example_instances(dtype)
            layer = layer_of(objects, name="labels")
            if dtype not in self.writer().labels_dtypes(layer):
                with pytest.raises(ExportError, match=dtype):
                    self._write(tmp_path, None, layer)
                continue
            found, size = self.labels(self._write(tmp_path, None, layer))
            np.testing.assert_array_equal(found, objects)
            assert np.can_cast(dtype, found.dtype, "safe")
            self._check_size(size)

    def test_a_name_survives_or_its_change_is_told(self, tmp_path: Path) -> None:
        """No class is called otherwise in silence."""
        if not self.keeps_names:
            return
        odd = ("my label", "2/b", "a: b")
        classes = tuple(replace(each, name=name) for each, name in zip(CLASSES, odd, strict=True))
        layer = layer_of(example_labels("uint8"), classes)
        found = self.names(self._write(tmp_path, None, layer))
        told = " ".join(self.writer().notices(layer))
        assert self.writer().notices(layer_of(example_labels("uint8"), CLASSES)) == ()
        for each in classes:
            if found[each.value] == each.name:
                assert f'"{each.name}"' not in told
            else:
                assert f'"{each.name}" is "{found[each.value]}"' in told

    def test_intensities_survive(self, tmp_path: Path) -> None:
        """Every type that the format takes, and those that fit into one of them."""
        if self.writer.IMAGE_SUFFIX is None:
            with pytest.raises(ExportError, match="labels only"):
                self.writer().write(tmp_path / "image", layer_of(example("uint8")), None)
            assert list(tmp_path.iterdir()) == []
            return
        for dtype in dict.fromkeys([*self.writer.IMAGE_DTYPES, "int16"]):
            if writable_dtype(dtype, self.writer.IMAGE_DTYPES) is None:
                continue
            found, size = self.image(self._write(tmp_path, layer_of(example(dtype)), None))
            np.testing.assert_array_equal(found, example(dtype))
            self._check_size(size)

    def test_both_survive_in_one_file(self, tmp_path: Path) -> None:
        """Where the format holds both; else both are refused."""
        image, labels = example("uint8"), example_labels("uint8")
        if not self.writer.TOGETHER:
            with pytest.raises(ExportError, match=r"labels only|not both"):
                self._write(tmp_path, layer_of(image), layer_of(labels, CLASSES))
            assert list(tmp_path.iterdir()) == []
            return
        path = self._write(tmp_path, layer_of(image), layer_of(labels, CLASSES))
        np.testing.assert_array_equal(self.image(path)[0], image)
        np.testing.assert_array_equal(self.labels(path)[0], labels)

    def test_an_unknown_voxel_size_stays_unknown_or_is_one(self, tmp_path: Path) -> None:
        """No size is made up."""
        layer = layer_of(example_labels("uint8"), CLASSES, None)
        found, size = self.labels(self._write(tmp_path, None, layer))
        np.testing.assert_array_equal(found, example_labels("uint8"))
        assert size is None or len(set(size.zyx)) == 1

    def test_reads_one_slice_at_a_time(self, tmp_path: Path) -> None:
        """Memory does not grow with the volume."""
        regions: list[Roi] = []
        labels = example_labels("uint8")

        def read(roi: Roi) -> npt.NDArray[Any]:
            regions.append(roi)
            return labels[roi.slices]

        layer = Layer("labels", SHAPE, labels.dtype, VOXEL_SIZE, read, classes=CLASSES)
        self._write(tmp_path, None, layer)
        assert {roi.z for roi in regions} == set(range(SHAPE[0]))
        assert max(roi.depth for roi in regions) == 1

    def test_what_fails_leaves_what_was_there(self, tmp_path: Path) -> None:
        """No half-written file."""
        layer = layer_of(example_labels("uint8"), CLASSES)
        path = self._write(tmp_path, None, layer)
        before = sorted(tmp_path.rglob("*"))

        def fail(roi: Roi) -> npt.NDArray[Any]:
            if roi.z == SHAPE[0] - 1:
                raise OSError(28, "No space left on device")
            return example_labels("uint8")[roi.slices]

        broken = Layer("labels", SHAPE, layer.dtype, VOXEL_SIZE, fail, classes=CLASSES)
        with pytest.raises(DiskFullError):
            self._write(tmp_path, None, broken)
        assert sorted(tmp_path.rglob("*")) == before
        np.testing.assert_array_equal(self.labels(path)[0], example_labels("uint8"))

    def _write(self, folder: Path, image: Layer | None, labels: Layer | None) -> Path:
        suffix = self.writer().labels_suffix(labels) if labels else self.writer.IMAGE_SUFFIX
        path = folder / f"stack{suffix}"
        self.writer().write(path, image, labels)
        return path

    def _check_size(self, size: VoxelSize | None) -> None:
        if self.keeps_voxel_size:
            assert size is not None
            assert size.zyx == pytest.approx(VOXEL_SIZE.zyx, rel=1e-4)
        else:
            assert size is None


def layer_of(
    array: npt.NDArray[Any],
    classes: tuple[LabelClass, ...] = (),
    voxel_size: VoxelSize | None = VOXEL_SIZE,
    name: str | None = None,
) -> Layer:
    """Return an array in memory, (z, y, x), as a layer; labels are recognised by their classes."""
    depth, height, width = array.shape

    def read(roi: Roi) -> npt.NDArray[Any]:
        return array[roi.slices]

    name = name or ("labels" if classes else "image")
    return Layer(name, (depth, height, width), array.dtype, voxel_size, read, classes=classes)


def example(dtype: str) -> npt.NDArray[Any]:
    """Return intensities of SHAPE without symmetry, so that a swapped axis shows."""
    z, y, x = np.indices(SHAPE)
    volume: npt.NDArray[Any] = (20 * z + y + x // 2).astype(dtype)
    return volume


def example_labels(dtype: str) -> npt.NDArray[Any]:
    """Return values 0, 1 and 2 of SHAPE: blobs with a hole, one at an edge, none in slice 3."""
    z, y, x = np.indices(SHAPE)
    far = np.hypot(y - 14, x - 20)
    labels = np.where((far < 11) & (far > 4), 1, 0)
    labels[(y > 20) & (x > 45 - z)] = 2
    labels[3] = 0
    result: npt.NDArray[Any] = labels.astype(dtype)
    return result


def example_instances(dtype: str) -> npt.NDArray[Any]:
    """Return the numbers of 336 objects of SHAPE, with background between rows of them.

    Those of 32 bits are too large for 16.
    """
    z, y, x = np.indices(SHAPE)
    numbers = 1 + z // 2 * 112 + y // 5 * 14 + x // 4
    numbers[y % 5 == 0] = 0
    result: npt.NDArray[Any] = (numbers * (1000 if dtype == "uint32" else 1)).astype(dtype)
    return result
