import struct
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest
import scipy.io
import scipy.sparse
from scipy.io.matlab import MatlabObject

from biosegment.errors import ChoiceError, UnreadableFileError
from biosegment.geometry import Roi
from importers.detect import open_volume
from importers.mib import MibReader
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all

NAMES = ("mitochondria", "vésicles", "Golgi apparatus")
CLASSES = {"float32": "single", "float64": "double"}


def box(voxel_size=VOXEL_SIZE, shape=SHAPE):
    """Return the corners, the centres of the outer voxels; one slice counts as two."""
    ends = [
        2 + (max(size, 2) - 1) * edge / 1000
        for size, edge in zip(shape, voxel_size.zyx, strict=True)
    ]
    return np.array([[2, ends[2], 2, ends[1], 2, ends[0]]])


def in_cells(*texts):
    cells = np.empty((len(texts), 1), object)
    cells[:, 0] = texts
    return cells


def model_of(volume, voxel_size=VOXEL_SIZE, **changes):
    model = {
        "mibModel": volume.transpose(1, 2, 0),
        "modelVariable": "mibModel",
        "modelMaterialNames": in_cells(*NAMES),
        "modelMaterialColors": np.eye(3),
        "BoundingBox": box(voxel_size),
        "modelType": 255.0,
    }
    return {name: value for name, value in (model | changes).items() if value is not None}


def write_5(path, volume, voxel_size=VOXEL_SIZE, compressed=True, **changes):
    """Write a model as MIB writes it, by SciPy."""
    model = model_of(volume, voxel_size, **changes)
    scipy.io.savemat(path, model, appendmat=False, do_compression=compressed, oned_as="column")
    return path


def write_73(path, volume, voxel_size=VOXEL_SIZE, **changes):
    """Write a model as MATLAB does in version 7.3: HDF5 behind a header, axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in model_of(volume, voxel_size, **changes).items():
            write_variable(file, name, value)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def write_variable(file, name, value):
    if isinstance(value, str):
        units = np.frombuffer(value.encode("utf-16-le"), "<u2")[:, None]
        data = file.create_dataset(name, data=units)
        data.attrs["MATLAB_class"] = np.bytes_("char")
        data.attrs["MATLAB_int_decode"] = np.int32(2)
    elif isinstance(value, np.ndarray) and value.dtype == object:
        below = [f"#refs#/{name}{index}" for index in range(value.size)]
        for place, text in zip(below, value.ravel(order="F"), strict=True):
            write_variable(file, place, text)
        references = [file[place].ref for place in below]
        data = file.create_dataset(name, (1, len(below)), h5py.ref_dtype)
        data[0] = references
        data.attrs["MATLAB_class"] = np.bytes_("cell")
    else:
        value = np.atleast_2d(value)
        options = {"chunks": (2, 20, 16), "compression": "gzip"} if value.ndim == 3 else {}
        data = file.create_dataset(name, data=value.T, **options)
        data.attrs["MATLAB_class"] = np.bytes_(CLASSES.get(value.dtype.name, value.dtype.name))


class TestMat5(ReaderContract):
    reader = MibReader
    dtypes = ("uint8", "uint16", "uint32", "int16", "float32", "float64")

    def write(self, folder, volume, voxel_size):
        return write_5(folder / "Labels_cells.model", volume, voxel_size)


class TestUncompressedMat5(ReaderContract):
    reader = MibReader
    dtypes = ("uint8", "uint16")

    def write(self, folder, volume, voxel_size):
        return write_5(folder / "cells.model", volume, voxel_size, compressed=False)


class TestMat73(ReaderContract):
    reader = MibReader
    dtypes = ("uint8", "uint16", "uint32", "float64")
    damages = 60

    def write(self, folder, volume, voxel_size):
        return write_73(folder / "cells.model", volume, voxel_size)


@pytest.fixture(params=[write_5, write_73], ids=["5", "7.3"])
def write(request, tmp_path):
    """Return a function that writes a model of either version."""
    return lambda volume, **changes: request.param(tmp_path / "cells.model", volume, **changes)


def test_materials_name_values_from_1(write):
    assert info_of(write(example("uint8"))).label_names == dict(enumerate(NAMES, start=1))


def test_numbers_for_names_say_nothing(write):
    names = in_cells("1", "2", "axon", "")
    assert info_of(write(example("uint16"), modelMaterialNames=names)).label_names == {3: "axon"}


def test_the_variable_may_have_another_name(write):
    path = write(example("uint8"), mibModel=None, modelVariable="im_browser_model",
                 im_browser_model=example("uint8").transpose(1, 2, 0))  # fmt: skip
    assert info_of(path).dataset == "im_browser_model"
    np.testing.assert_array_equal(read_all(path), example("uint8"))
    with pytest.raises(ChoiceError, match=r"\(im_browser_model\) and no dataset mibModel"):
        info_of(path, dataset="mibModel")


def test_a_bare_model_is_enough(write):
    others = ("modelVariable", "modelMaterialNames", "modelMaterialColors", "BoundingBox")
    path = write(example("uint8"), **dict.fromkeys(others))
    info = info_of(path)
    assert (info.voxel_size, info.label_names) == (None, {})
    np.testing.assert_array_equal(read_all(path), example("uint8"))


def test_a_fourth_axis_is_time(write):
    movie = np.stack([example("uint8"), example("uint8") + 1])
    path = write(example("uint8"), mibModel=movie.transpose(2, 3, 1, 0))
    assert (info_of(path).times, info_of(path).shape) == (2, SHAPE)
    np.testing.assert_array_equal(read_all(path, time=1), movie[1])


def test_one_slice_has_two_axes(write):
    path = write(example("uint8"), mibModel=example("uint8")[0], BoundingBox=box(shape=(1, 37, 53)))
    assert info_of(path).voxel_size.zyx == pytest.approx(VOXEL_SIZE.zyx)
    np.testing.assert_array_equal(read_all(path), example("uint8")[:1])


@pytest.mark.parametrize(
    "bounds", [np.zeros((1, 6)), np.ones((1, 4)), np.full((1, 6), np.nan), "a box"]
)
def test_an_impossible_box_is_no_voxel_size(write, bounds):
    assert info_of(write(example("uint8"), BoundingBox=bounds)).voxel_size is None


def test_other_mat_files_are_left_to_others(write):
    path = write(example("uint8"), mibModel=None, modelVariable=None)
    assert "no variable modelVariable or mibModel" in MibReader.refusal(path)


def test_a_model_by_another_name_is_known_by_its_content(write):
    path = write(example("uint8"))
    with open_volume(path.rename(path.with_suffix(".mat"))) as reader:
        assert type(reader) is MibReader


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mibModel": None}, "no variable mibModel"),
        ({"mibModel": "a text"}, "of class char"),
        ({"mibModel": in_cells("a", "b")}, "of class cell"),
        ({"mibModel": np.zeros((2, 2, 2, 2, 2), "uint8")}, "which of its 5 axes"),
        ({"modelVariable": "gone"}, "no variable gone"),
    ],
)
def test_what_is_no_array_is_refused(write, changes, reason):
    with pytest.raises(UnreadableFileError, match=reason):
        info_of(write(example("uint8"), **changes))


def test_objects_and_functions_are_refused(tmp_path):
    record = np.zeros((1, 1), [("a", object)])
    record["a"][0, 0] = np.eye(2)
    for value in (
        MatlabObject(record, "mibImage"),
        {"a": 1},
        np.zeros((2, 2), "complex128"),
        scipy.sparse.eye(3).tocsc(),
    ):
        path = write_5(tmp_path / "cells.model", example("uint8"), mibModel=value)
        with pytest.raises(UnreadableFileError, match=r"of class (object|struct|complex|sparse)"):
            info_of(path)


def element(code, content):
    """Return data as they stand in a file of the byte order that most computers do not have."""
    return struct.pack(">II", code, len(content)) + content + bytes(-len(content) % 8)


def by_hand(path, kind, *parts):
    """Write a variable of a class, with whatever follows."""
    matrix = element(6, struct.pack(">II", kind, 0)) + b"".join(parts)
    header = b"MATLAB 5.0 MAT-file".ljust(116) + bytes(8) + b"\x01\x00MI"
    path.write_bytes(header + element(14, matrix))
    return path


def test_what_scipy_does_not_write_is_refused(tmp_path):
    name, one, code = (
        element(1, b"mibModel"),
        element(5, struct.pack(">2i", 1, 1)),
        element(1, b"system"),
    )
    path = by_hand(tmp_path / "function.model", 16, one, name, code)
    with pytest.raises(UnreadableFileError, match="of class function"):
        info_of(path)
    path = by_hand(tmp_path / "object.model", 17, name, element(1, b"MCOS"), code)
    with pytest.raises(UnreadableFileError, match="of class object"):
        info_of(path)


@pytest.mark.parametrize("kind", ["function_handle", "mibImage"])
def test_objects_in_version_73_are_refused(tmp_path, kind):
    path = write_73(tmp_path / "cells.model", example("uint8"))
    with h5py.File(path, "a") as file:
        file["mibModel"].attrs["MATLAB_class"] = np.bytes_(kind)
    with pytest.raises(UnreadableFileError, match=f"of class {kind}"):
        info_of(path)


def test_an_empty_model_is_refused(tmp_path):
    path = write_73(tmp_path / "a.model", example("uint8"))
    with h5py.File(path, "a") as file:
        file["mibModel"].attrs["MATLAB_empty"] = np.uint8(1)
    with pytest.raises(UnreadableFileError, match="is empty"):
        info_of(path)
    with pytest.raises(UnreadableFileError, match="of size"):
        info_of(write_5(tmp_path / "b.model", np.zeros((0, 3, 4), "uint8")))


@pytest.mark.parametrize(("kind", "dtype"), [(11, "uint16"), (6, "float64")])
def test_files_of_the_other_byte_order_are_read(tmp_path, kind, dtype):
    """MATLAB also keeps numbers in fewer bytes than their class has."""
    volume = example("uint16")
    data = element(4, volume.transpose(0, 2, 1).astype(">u2").tobytes())
    sizes = element(5, struct.pack(">3i", 37, 53, 5))
    path = by_hand(tmp_path / "cells.model", kind, sizes, element(1, b"mibModel"), data)
    np.testing.assert_array_equal(scipy.io.loadmat(path)["mibModel"], volume.transpose(1, 2, 0))
    assert info_of(path).dtype == dtype
    np.testing.assert_array_equal(read_all(path), volume)


@pytest.mark.parametrize("compressed", [True, False])
def test_a_header_may_promise_what_it_likes(tmp_path, compressed):
    whole = write_5(tmp_path / "cells.model", example("uint8"), compressed=False).read_bytes()
    sizes = struct.pack("<3i", 37, 53, 5)
    place = whole.index(sizes)
    tag = whole.index(struct.pack("<II", 2, 9805))
    content = bytearray(whole)
    struct.pack_into("<3i", content, place, 2**14, 2**14, 15)
    struct.pack_into("<I", content, tag + 4, 2**28 * 15)
    path = tmp_path / "huge.model"
    if compressed:
        size = struct.unpack_from("<I", content, 132)[0]
        packed = zlib.compress(bytes(content[128 : 136 + size]))
        content[128 : 136 + size] = struct.pack("<II", 15, len(packed)) + packed
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(UnreadableFileError, match=r"cut off|more than a file of its size"):
        info_of(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22


def test_a_packed_model_is_never_whole_in_memory(tmp_path):
    path = tmp_path / "cells.model"
    scipy.io.savemat(path, {"mibModel": np.zeros((512, 512, 64), "uint8")}, appendmat=False,
                     do_compression=True)  # fmt: skip
    tracemalloc.start()
    with open_volume(path) as reader:
        reader.read(Roi(40, 0, 0, 1, 512, 512))
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23


def test_blocks_of_a_model_are_known(tmp_path):
    path = write_73(tmp_path / "cells.model", example("uint8"))
    with open_volume(path) as reader:
        assert reader.info.chunks == (2, 16, 20)


def test_too_many_variables_are_refused(tmp_path):
    path = write_5(tmp_path / "cells.model", example("uint8"))
    path.write_bytes(path.read_bytes() + bytes(100_000))
    with pytest.raises(UnreadableFileError, match="too many variables"):
        open_volume(path)
