import json
import resource

import h5py
import numpy as np
import pytest

from biosegment.errors import DiskFullError
from biosegment.geometry import VoxelSize
from exporters.hdf5 import Hdf5Writer
from exporters.testing import CLASSES, SHAPE, WriterContract, example, example_labels, layer_of


def read(path, name):
    """Return voxels and voxel size by h5py, axes as ilastik takes them."""
    with h5py.File(path) as file:
        axes = json.loads(file[name].attrs["axistags"])["axes"]
        assert [axis["key"] for axis in axes] == ["z", "y", "x"]
        size = file[name].attrs.get("element_size_um")
        return file[name][:], None if size is None else VoxelSize(*(1000 * size))


class TestHdf5Writer(WriterContract):
    writer = Hdf5Writer

    def image(self, path):
        return read(path, "image")

    def labels(self, path):
        return read(path, "labels")

    def names(self, path):
        with h5py.File(path) as file:
            names = json.loads(file["labels"].attrs["label_names"])
        return {int(value): name for value, name in names.items()}


@pytest.mark.parametrize("kinds", [["image"], ["labels"], ["image", "labels"]])
def test_it_holds_what_it_was_given(tmp_path, kinds):
    path = tmp_path / "a.h5"
    image = layer_of(example("uint8")) if "image" in kinds else None
    labels = layer_of(example_labels("uint8"), CLASSES) if "labels" in kinds else None
    Hdf5Writer().write(path, image, labels)
    with h5py.File(path) as file:
        assert sorted(file) == kinds


def test_chunks_lie_in_a_slice_and_are_compressed(tmp_path):
    path = tmp_path / "a.h5"
    wide = np.zeros((2, 300, 600), "uint16")
    for array, chunks in ((example("uint16"), (1, *SHAPE[1:])), (wide, (1, 256, 256))):
        Hdf5Writer().write(path, layer_of(array), None)
        with h5py.File(path) as file:
            dataset = file["image"]
            assert dataset.chunks == chunks
            assert (dataset.compression, dataset.shuffle) == ("gzip", True)


def test_as_many_names_as_there_are_fit(tmp_path):
    classes = tuple(type(CLASSES[0])(value, "x" * 50, (1, 2, 3)) for value in range(1, 3000))
    path = tmp_path / "a.h5"
    Hdf5Writer().write(path, None, layer_of(example_labels("uint16"), classes))
    with h5py.File(path) as file:
        assert len(json.loads(file["labels"].attrs["label_names"])) == 2999


@pytest.mark.parametrize("limit", [100, 1000, 3000, 100_000])
def test_a_full_disk_is_said_and_leaves_nothing(tmp_path, limit):
    """HDF5 itself would end the process."""
    noise = np.random.default_rng(1).integers(0, 256, (5, 300, 300)).astype("uint8")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(DiskFullError):
            Hdf5Writer().write(tmp_path / "a.h5", layer_of(noise), layer_of(noise, CLASSES))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
