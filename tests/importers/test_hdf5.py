import json
import struct

import h5py
import numpy as np
import pytest

from biosegment.errors import ChoiceError, LinkError, UnreadableFileError
from biosegment.geometry import Roi
from importers.base import Choice
from importers.convert import import_volume
from importers.detect import open_volume
from importers.hdf5 import Hdf5Reader
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all

CHUNKS = (2, 16, 20)


def axistags(axes):
    """The axes of an array as vigra tells them."""
    kinds = {"t": 8, "c": 1}
    return json.dumps(
        {"axes": [{"key": axis, "typeFlags": kinds.get(axis, 2), "resolution": 0} for axis in axes]}
    )


class TestIlastik(ReaderContract):
    reader = Hdf5Reader
    dtypes = ("uint8", "uint16", "uint32", "int64", "float32")
    # Another process reads the tags.
    damages = 15

    def write(self, folder, volume, voxel_size):
        path = folder / "stack.h5"
        with h5py.File(path, "w") as file:
            data = file.create_dataset("exported_data", data=volume, chunks=CHUNKS)
            data.attrs["axistags"] = axistags("zyx")
            data.attrs["element_size_um"] = [edge / 1000 for edge in voxel_size.zyx]
        return path


class TestCompressed(ReaderContract):
    reader = Hdf5Reader
    dtypes = ("uint16", "int16", "float16", "float64")

    def write(self, folder, volume, voxel_size):
        path = folder / "stack.hdf5"
        with h5py.File(path, "w", libver="latest") as file:
            options = {"compression": "gzip", "shuffle": True, "fletcher32": True}
            volume = volume.astype(volume.dtype.newbyteorder(">"))
            data = file.create_dataset("volumes/raw", data=volume, chunks=CHUNKS, **options)
            data.attrs["resolution"] = np.array(voxel_size.zyx)
        return path


def write(path, **datasets):
    with h5py.File(path, "w") as file:
        for name, values in datasets.items():
            file[name] = values
    return path


@pytest.fixture
def cremi(tmp_path):
    """A file as the CREMI challenge has them."""
    path = tmp_path / "sample_A.hdf"
    with h5py.File(path, "w") as file:
        raw = file.create_dataset("volumes/raw", data=example("uint8"))
        raw.attrs["resolution"] = (40.0, 4.0, 4.0)
        ids = file.create_dataset("volumes/labels/neuron_ids", data=example("uint64") + 2**40)
        ids.attrs["resolution"] = (40.0, 4.0, 4.0)
        ids.attrs["offset"] = (1480.0, 3644.0, 3644.0)
        file["annotations/locations"] = np.zeros((7, 3))
        file["annotations/types"] = np.array([b"synapse"] * 7)
    return path


def test_of_several_volumes_one_is_chosen(cremi):
    with pytest.raises(ChoiceError, match=r"2 datasets \(volumes/labels/neuron_ids, volumes/raw\)"):
        open_volume(cremi)
    info = info_of(cremi, dataset="/volumes/raw")
    assert (info.dataset, info.voxel_size.zyx) == ("volumes/raw", (40, 4, 4))
    np.testing.assert_array_equal(read_all(cremi, dataset="volumes/raw"), example("uint8"))


def test_the_only_volume_below_a_chosen_group_is_taken(cremi):
    info = info_of(cremi, dataset="volumes/labels")
    assert (info.dataset, info.dtype) == ("volumes/labels/neuron_ids", np.uint64)
    assert info.metadata["offset"] == "1480, 3644, 3644"
    np.testing.assert_array_equal(
        read_all(cremi, dataset="volumes/labels"), example("uint64") + 2**40
    )


@pytest.mark.parametrize("name", ["volumes/row", "volumes/raw/0"])
def test_a_dataset_that_is_not_there(cremi, name):
    with pytest.raises(ChoiceError, match=f"no dataset {name}: choose with --dataset"):
        open_volume(cremi, Choice(dataset=name))


def test_a_file_without_volumes(tmp_path):
    path = write(tmp_path / "table.h5", table=np.zeros((7, 3)), text=np.full((3, 3, 3), b"a"))
    with pytest.raises(UnreadableFileError, match="no array of 3 to 5 axes of numbers"):
        open_volume(path)


def test_tags_tell_axes_in_any_order(tmp_path):
    path = tmp_path / "stack.h5"
    stack = np.stack([example("uint16"), example("uint16") + 1])
    with h5py.File(path, "w") as file:
        file["data"] = np.einsum("czyx->xyzc", stack)[None]
        file["data"].attrs["axistags"] = axistags("txyzc")
    info = info_of(path)
    assert (info.shape, info.channels, info.times) == (SHAPE, 2, 1)
    with open_volume(path) as reader, pytest.raises(ChoiceError, match="2 channels"):
        reader.check_chosen()
    with open_volume(path, Choice(channel=1)) as reader:
        roi = Roi(1, 2, 3, 3, 20, 30)
        np.testing.assert_array_equal(reader.read(roi), stack[1][roi.slices])


def test_axes_of_one_need_no_names(tmp_path):
    for shape in ((*SHAPE, 1), (1, *SHAPE), (1, *SHAPE, 1), (5, 1, 37, 53)):
        path = write(tmp_path / "stack.h5", data=example("uint8").reshape(shape))
        np.testing.assert_array_equal(read_all(path), example("uint8"))


@pytest.mark.parametrize("shape", [(*SHAPE, 2), (3, *SHAPE), (2, *SHAPE, 1)])
def test_more_axes_without_names_are_not_guessed(tmp_path, shape):
    path = write(tmp_path / "stack.h5", data=np.zeros(shape, "uint8"))
    with pytest.raises(UnreadableFileError, match="does not tell which of its"):
        open_volume(path)


def test_a_slice_can_be_chosen(tmp_path):
    path = write(tmp_path / "slices.h5", a=example("uint8")[0], b=example("uint8"))
    np.testing.assert_array_equal(read_all(path, dataset="a")[0], example("uint8")[0])
    assert info_of(path).dataset == "b"


def test_truth_values_read_as_0_and_1(tmp_path):
    mask = example("uint8") > 100
    path = write(tmp_path / "mask.h5", mask=mask)
    assert info_of(path).dtype == np.uint8
    np.testing.assert_array_equal(read_all(path), mask)


def test_matlab_stores_rows_columns_and_slices_backwards(tmp_path):
    path = tmp_path / "stack.mat"
    with h5py.File(path, "w", userblock_size=512) as file:
        file["im"] = np.einsum("zyx->zxy", example("uint8"))
        file["im"].attrs["MATLAB_class"] = np.bytes_("uint8")
    np.testing.assert_array_equal(read_all(path), example("uint8"))


def test_big_data_viewer_levels_are_one_volume_of_unsigned_numbers(tmp_path):
    path = tmp_path / "dataset.h5"
    volume = example("uint16") + 40_000
    with h5py.File(path, "w") as file:
        file["s00/resolutions"] = np.array([[1, 1, 1], [2, 2, 1]], float)
        file["s00/subdivisions"] = np.array([[16, 16, 2], [16, 16, 2]])
        file["t00000/s00/0/cells"] = volume.view("int16")
        file["t00000/s00/1/cells"] = volume[:, ::2, ::2].view("int16")
    assert info_of(path).dataset == "t00000/s00/0/cells"
    np.testing.assert_array_equal(read_all(path), volume)
    with h5py.File(path, "a") as file:
        file["t00001/s00/0/cells"] = volume.view("int16")
    with pytest.raises(ChoiceError, match="t00000/s00/0/cells, t00001/s00/0/cells"):
        open_volume(path)


@pytest.mark.parametrize("edges", [(0, 5, 4), (40, 5), (np.nan, 5, 4), (-40, 5, 4), ()])
def test_an_impossible_voxel_size_is_unknown(tmp_path, edges):
    path = write(tmp_path / "stack.h5", data=example("uint8"))
    with h5py.File(path, "a") as file:
        file["data"].attrs["resolution"] = np.array(edges, float)
    assert info_of(path).voxel_size is None


def test_voxels_in_other_files_are_refused(tmp_path):
    outside, path = tmp_path / "voxels.raw", tmp_path / "stack.h5"
    outside.write_bytes(example("uint8").tobytes())
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "data", SHAPE, "uint8", external=[(str(outside), 0, h5py.h5f.UNLIMITED)]
        )
    with pytest.raises(UnreadableFileError, match="voxels lie in other files"):
        open_volume(path)
    write(tmp_path / "part.h5", data=example("uint8"))
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(SHAPE, "uint8")
        layout[:] = h5py.VirtualSource(tmp_path / "part.h5", "data", SHAPE)
        file.create_virtual_dataset("data", layout)
    with pytest.raises(UnreadableFileError, match="voxels lie in other files"):
        open_volume(path)


def test_a_compression_that_is_not_installed_is_named(tmp_path):
    path = tmp_path / "stack.h5"
    with h5py.File(path, "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk(CHUNKS)
        properties.set_filter(32001, h5py.h5z.FLAG_OPTIONAL, (2, 2, 1))
        space = h5py.h5s.create_simple(SHAPE)
        h5py.h5d.create(file.id, b"data", h5py.h5t.NATIVE_UINT8, space, properties)
    with pytest.raises(UnreadableFileError, match="compressed by 32001, which is no part of HDF5"):
        open_volume(path)


def test_a_block_that_cannot_be_decoded_is_met_when_it_is_read(tmp_path):
    path = TestCompressed().write(tmp_path, example("uint16"), VOXEL_SIZE)
    with h5py.File(path) as file:
        place = file["volumes/raw"].id.get_chunk_info_by_coord((2, 0, 0))
    content = bytearray(path.read_bytes())
    content[place.byte_offset + 30 : place.byte_offset + 90] = bytes(60)
    path.write_bytes(content)
    with open_volume(path) as reader:
        np.testing.assert_array_equal(reader.read(Roi.slice_of(SHAPE, 0))[0], example("uint16")[0])
        with pytest.raises(UnreadableFileError, match="cannot be decoded"):
            reader.read(Roi.slice_of(SHAPE, 2))


def test_a_huge_array_that_was_hardly_written_is_read_by_region(tmp_path):
    path = tmp_path / "sparse.h5"
    with h5py.File(path, "w") as file:
        data = file.create_dataset("data", (2**20,) * 3, "uint8", chunks=(4, 64, 64), fillvalue=7)
        data[2**19, 2**19, :5] = 9
    with open_volume(path) as reader:
        corner = reader.read(Roi(2**19, 2**19, 0, 1, 1, 7))
    assert corner.tolist() == [[[9, 9, 9, 9, 9, 7, 7]]]


def test_a_heap_on_which_the_library_would_hang_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("importers.hdf5_attributes._PATIENCE_S", 0.5)
    path = TestIlastik().write(tmp_path, example("uint8"), VOXEL_SIZE)
    content = path.read_bytes()
    heap = content.index(b"GCOL")
    # The next object on it would begin where the first one does.
    path.write_bytes(content[: heap + 24] + struct.pack("<q", -16) + content[heap + 32 :])
    with pytest.raises(UnreadableFileError, match="attributes are damaged"):
        open_volume(path)


def test_an_array_in_blocks_can_stay_where_it_is(tmp_path):
    path = tmp_path / "stack.h5"
    stack = np.stack([example("uint16"), example("uint16") + 1], axis=-1)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("t0/raw", data=stack, chunks=(2, 16, 20, 1))
        data.attrs["axistags"] = np.bytes_(axistags("zyxc"))
    store = import_volume(path, tmp_path / "data", "a", choice=Choice(channel=1), link=True)
    np.testing.assert_array_equal(store.read(Roi.whole(SHAPE)), stack[..., 1])


@pytest.mark.parametrize(
    ("chunks", "axes", "dtype", "why"),
    [
        (None, "zyx", "uint8", "not cut into blocks"),
        (CHUNKS, "xyz", "uint8", "its axes are xyz, not in the order z, y, x"),
        (CHUNKS, "zyx", "bool", "its values are stored as bool"),
    ],
)
def test_other_arrays_have_to_be_copied(tmp_path, chunks, axes, dtype, why):
    with h5py.File(tmp_path / "stack.h5", "w") as file:
        data = file.create_dataset("raw", data=example(dtype), chunks=chunks)
        data.attrs["axistags"] = np.bytes_(axistags(axes))
    with pytest.raises(LinkError, match=why):
        import_volume(tmp_path / "stack.h5", tmp_path / "data", "a", link=True)


def test_a_file_that_ilastik_reads(real_formats):
    path = real_formats / "ilastik/3d1c.h5"
    info = info_of(path)
    assert (info.shape, info.dtype, info.voxel_size) == ((50, 60, 55), np.uint8, None)
    with h5py.File(path) as file:
        np.testing.assert_array_equal(read_all(path), file["data"][..., 0])


@pytest.mark.parametrize(
    ("told", "names"),
    [
        ('{"1": "mitochondria", "300": "véhicule"}', {1: "mitochondria", 300: "véhicule"}),
        (np.bytes_(b'{"0": "background", "2": "axon"}'), {2: "axon"}),
        ('{"1": 5, "2": "", "3": "axon"}', {3: "axon"}),
        ('{"one": "axon"}', {}),
        ('["axon"]', {}),
        ("axon", {}),
        (7, {}),
    ],
)
def test_label_names_may_stand_in_an_attribute(tmp_path, told, names):
    path = write(tmp_path / "labels.h5", labels=example("uint16"))
    with h5py.File(path, "a") as file:
        file["labels"].attrs["label_names"] = told
    info = info_of(path)
    assert (info.label_names, info.metadata) == (names, {})
