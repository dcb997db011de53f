import tracemalloc
import zlib

import numpy as np
import pytest

from biosegment.errors import ChoiceError, UnreadableFileError
from biosegment.geometry import Roi
from importers.amira import AmiraReader
from importers.detect import open_volume
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all

KINDS = {
    "uint8": "byte",
    "int16": "short",
    "uint16": "ushort",
    "int32": "int",
    "float32": "float",
    "float64": "double",
}
LITTLE = "AmiraMesh BINARY-LITTLE-ENDIAN 2.1"
BIG = "AmiraMesh 3D BINARY 2.0"
TEXT = "AmiraMesh 3D ASCII 2.0"
MATERIALS = "Exterior {\n }\n Mito {\n Color 1 0 0,\n Id 1\n }\n Vesicle {\n Id 2\n }\n"


def box(shape=SHAPE, voxel_size=VOXEL_SIZE, low=-1.5):
    """Return the corners, the centres of the outer voxels, in micrometres."""
    ends = [
        low + (size - 1) * edge / 1000 for size, edge in zip(shape, voxel_size.zyx, strict=True)
    ]
    return " ".join(f"{low} {end:.9g}" for end in ends[::-1])


def craft(path, *data, first=LITTLE, parameters=None, lattice="53 37 5", arrays=None, units="um"):
    """Write a header line by line, and sections of data behind it."""
    if parameters is None:
        parameters = f'BoundingBox {box()},\n CoordType "uniform"'
    units = f'Units {{\n Coordinates "{units}"\n }}\n' if units else ""
    arrays = arrays or ["Lattice { byte Labels } @1"]
    header = (
        f"# {first}\n\ndefine Lattice {lattice}\n\nParameters {{\n {units} {parameters}\n}}\n\n"
    )
    header += "\n".join(arrays) + "\n\n# Data section follows\n"
    sections = [f"@{number}\n".encode() + part for number, part in enumerate(data, start=1)]
    path.write_bytes(header.encode("latin-1") + b"\n".join(sections) + b"\n")
    return path


def runs_of(content):
    """Pack bytes as HxByteRLE: runs of two and more, and what lies between them as it is."""
    packed, place, plain = bytearray(), 0, bytearray()
    while place < len(content):
        end = place + 1
        while end < len(content) and end - place < 127 and content[end] == content[place]:
            end += 1
        if end - place == 1:
            plain += content[place:end]
        if plain and (end - place > 1 or len(plain) == 127 or end == len(content)):
            packed += bytes([128 + len(plain)]) + plain
            plain.clear()
        if end - place > 1:
            packed += bytes([end - place, content[place]])
        place = end
    return bytes(packed)


class TestRaw(ReaderContract):
    reader = AmiraReader
    dtypes = tuple(KINDS)

    def write(self, folder, volume, voxel_size):
        arrays = [f"Lattice {{ {KINDS[volume.dtype.name]} Data }} @1"]
        data = volume.astype(volume.dtype.newbyteorder("<")).tobytes()
        return craft(folder / "stack.am", data, arrays=arrays)


class TestBigEndian(ReaderContract):
    reader = AmiraReader
    dtypes = ("uint16", "float32")

    def write(self, folder, volume, voxel_size):
        arrays = [f"Lattice {{ {KINDS[volume.dtype.name]} Data }} = @1"]
        data = volume.astype(volume.dtype.newbyteorder(">")).tobytes()
        return craft(folder / "stack.am", data, first=BIG, arrays=arrays)


class TestRunLengths(ReaderContract):
    reader = AmiraReader
    dtypes = ("uint8",)

    def write(self, folder, volume, voxel_size):
        data = runs_of(volume.tobytes())
        arrays = [f"Lattice {{ byte Labels }} @1(HxByteRLE,{len(data)})"]
        return craft(folder / "stack.am", data, arrays=arrays)


class TestZip(ReaderContract):
    reader = AmiraReader
    dtypes = ("uint8", "uint16")

    def write(self, folder, volume, voxel_size):
        data = zlib.compress(volume.astype(volume.dtype.newbyteorder("<")).tobytes())
        arrays = [f"Lattice {{ {KINDS[volume.dtype.name]} Labels }} @1(HxZip,{len(data)})"]
        return craft(folder / "stack.am", data, arrays=arrays)


class TestText(ReaderContract):
    reader = AmiraReader
    dtypes = ("uint8", "int16", "float32")

    def write(self, folder, volume, voxel_size):
        data = "".join(f"{value} \n" for value in volume.ravel()).encode()
        arrays = [f"Lattice {{ {KINDS[volume.dtype.name]} Data }} @1"]
        return craft(folder / "stack.am", data, first=TEXT, arrays=arrays)


def test_real_files_read_the_same_raw_and_packed(real_formats):
    labels = real_formats / "am" / "LHMask.Labels.rle.am"
    info = info_of(labels)
    assert (info.shape, info.dtype, info.dataset) == ((50, 50, 50), np.uint8, "Labels")
    assert (info.voxel_size, info.label_names) == (None, {1: "Inside"})
    (notice,) = info.notices
    assert "1.4 x 1.4 x 1.4" in notice
    assert info.metadata["ImageData"] == "LHMask.am"
    volume = read_all(labels)
    assert (volume.sum(), volume.max()) == (28669, 1)
    packed = read_all(real_formats / "am" / "LHMask.zip.am")
    np.testing.assert_array_equal(packed > 0, volume)


@pytest.mark.parametrize(
    ("units", "nm"),
    [("um", 1), ("µm", 1), ("nm", 1e-3), ("mm", 1e3), ("microns", 1), (None, None), ("px", None)],
)
def test_lengths_are_known_where_their_unit_is(tmp_path, units, nm):
    path = craft(tmp_path / "a.am", example("uint8").tobytes(), units=units)
    info = info_of(path)
    if nm is None:
        assert info.voxel_size is None
        assert "0.04 x 0.005 x 0.004 (z, y, x)" in info.notices[0]
    else:
        assert info.voxel_size.zyx == pytest.approx([nm * edge for edge in VOXEL_SIZE.zyx])
        assert info.notices == ()


@pytest.mark.parametrize("bounds", ["0 1 0 1", "0 1 0 1 3 3", "0 1 0 nan 0 1", "0 0 0 1 0 1"])
def test_an_impossible_box_is_no_voxel_size(tmp_path, bounds):
    parameters = f"BoundingBox {bounds}"
    info = info_of(craft(tmp_path / "a.am", example("uint8").tobytes(), parameters=parameters))
    assert (info.voxel_size, info.notices) == (None, ())


def test_one_slice_spans_a_voxel(tmp_path):
    parameters = "BoundingBox 0 0.52 0 0.36 0 0.04, CoordType uniform"
    data = example("uint8")[0].tobytes()
    info = info_of(craft(tmp_path / "a.am", data, lattice="53 37 1", parameters=parameters))
    assert (info.shape, info.voxel_size.zyx) == ((1, 37, 53), pytest.approx((40, 10, 10)))
    flat = info_of(craft(tmp_path / "b.am", data, lattice="53 37", parameters=parameters))
    assert (flat.shape, flat.voxel_size) == ((1, 37, 53), None)


@pytest.mark.parametrize(
    ("materials", "names"),
    [
        (MATERIALS, {1: "Mito", 2: "Vesicle"}),
        ("Exterior { }\n Mito { }\n", {1: "Mito"}),
        ("Exterior { Id 0 }\n Mito { Id 1 }\n", {1: "Mito"}),
        # Amira counts its Ids as it likes.
        ("Exterior { Id 1 }\n Mito { Id 2 }\n Vesicle { Id 7 }\n", {1: "Mito", 2: "Vesicle"}),
        ('Exterior { }\n "Golgi apparatus" { Color 1 1 1 }\n', {1: "Golgi apparatus"}),
        ('{ Name "Exterior" }\n { Name "Mito" }\n', {1: "Mito"}),
        ("", {}),
    ],
)
def test_materials_name_values_by_their_order(tmp_path, materials, names):
    parameters = f"Materials {{\n{materials}}}\n BoundingBox {box()}"
    info = info_of(craft(tmp_path / "a.am", example("uint8").tobytes(), parameters=parameters))
    assert (info.label_names, info.notices) == (names, ())


@pytest.mark.parametrize(
    "materials",
    [
        "Exterior { Id 0 }\n Mito { Id 1 }\n Vesicle { Id 300 }\n",
        "Exterior { }\n Mito { Id 2 }\n Vesicle { Id 1 }\n",
        "Mito { Id 1 }\n Vesicle { Id 2 }\n",
    ],
)
def test_ids_that_could_be_values_leave_them_without_names(tmp_path, materials):
    parameters = f"Materials {{\n{materials}}}\n BoundingBox {box()}"
    info = info_of(craft(tmp_path / "a.am", example("uint8").tobytes(), parameters=parameters))
    assert info.label_names == {}
    assert "--map" in info.notices[0]


def test_of_several_arrays_the_labels_are_meant_or_one_is_chosen(tmp_path):
    labels, weights = example("uint8") % 3, example("float32")
    packed = zlib.compress(labels.tobytes())
    arrays = [
        "Lattice { float[2] Flow } @1",
        "Lattice { float Weight } @2",
        f"Lattice {{ byte Labels }} @3(HxZip,{len(packed)})",
        "Lattice { byte Probability } @4",
    ]
    data = (bytes(8 * labels.size), weights.tobytes(), packed, example("uint8").tobytes())
    parameters = f"Materials {{\n{MATERIALS}}}\n BoundingBox {box()}"
    path = craft(tmp_path / "a.am", *data, arrays=arrays, parameters=parameters)
    assert (info_of(path).dataset, len(info_of(path).label_names)) == ("Labels", 2)
    np.testing.assert_array_equal(read_all(path), labels)
    np.testing.assert_array_equal(read_all(path, dataset="Weight"), weights)
    np.testing.assert_array_equal(read_all(path, dataset="Probability"), example("uint8"))
    assert info_of(path, dataset="Probability").label_names == {}
    with pytest.raises(ChoiceError, match=r"\(Weight, Labels, Probability\) and no dataset Flow"):
        info_of(path, dataset="Flow")
    arrays[2] = arrays[2].replace("Labels", "Other")
    craft(tmp_path / "b.am", *data, arrays=arrays)
    with pytest.raises(ChoiceError, match="3 datasets"):
        info_of(tmp_path / "b.am")


def test_sections_of_text_end_where_the_next_begins(tmp_path):
    first, second = (
        " ".join(map(str, volume.ravel())) for volume in (example("uint8"), example("uint8") // 2)
    )
    arrays = ["Lattice { byte A } @1", "Lattice { byte B } @2"]
    path = craft(tmp_path / "a.am", first.encode(), second.encode(), first=TEXT, arrays=arrays)
    np.testing.assert_array_equal(read_all(path, dataset="A"), example("uint8"))
    np.testing.assert_array_equal(read_all(path, dataset="B"), example("uint8") // 2)


def test_a_file_by_another_name_is_known_by_its_content(tmp_path):
    path = craft(tmp_path / "cells.labels", example("uint8").tobytes())
    with open_volume(path) as reader:
        assert type(reader) is AmiraReader


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"lattice": "1048576 1048576 1"}, "cut off"),
        ({"lattice": "53 37 6"}, "cut off"),
        ({"lattice": "53 -37 5"}, "5 x -37 x 53"),
        ({"lattice": "53 0 5"}, "5 x 0 x 53"),
        ({"lattice": "53 37 five"}, "damaged"),
        ({"lattice": "9805"}, "no array on a lattice"),
        ({"arrays": ["Lattice { byte[4] Data } @1"]}, "4 numbers each"),
        ({"arrays": ["Lattice { complex Data } @1"]}, "of type complex"),
        ({"arrays": ["Vertices { byte Data } @1"]}, "no array on a lattice"),
        ({"arrays": ["Lattice { byte Data } @2"]}, "section @2 is missing"),
        ({"arrays": ["Lattice { byte Data } @1(HxGone,10)"]}, "packed by HxGone"),
        ({"arrays": ["Lattice { ushort Data } @1(HxByteRLE,10)"]}, "packed by HxByteRLE"),
        ({"arrays": ["Lattice { byte Data } @1(HxZip,1000)"]}, "damaged"),
        ({"arrays": ["Lattice { byte Data } @1(HxZip)"]}, "more than a file of its size"),
        ({"arrays": ["Lattice { byte Data } @1(HxZip,99999)"]}, "cut off"),
        ({"arrays": ["Lattice { byte Data } @1(HxByteRLE,100)"]}, "more than a file of its size"),
        ({"arrays": ["Lattice { byte Data } @1(HxByteRLE,4000)"]}, "cut off"),
        ({"first": TEXT}, "more than a file of its size|damaged"),
        ({"first": TEXT, "lattice": "16384 8192 8192"}, "more than a file of its size"),
        ({"parameters": 'CoordType "rectilinear"'}, "coordinates are rectilinear"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, changes, reason):
    path = craft(tmp_path / "a.am", bytes(9805), **changes)
    with pytest.raises(UnreadableFileError, match=reason):
        open_volume(path)


@pytest.mark.parametrize("packing", ["", "(HxByteRLE,9805)", "(HxZip,9805)"])
@pytest.mark.parametrize("first", [LITTLE, TEXT])
def test_a_header_may_promise_what_it_likes(tmp_path, packing, first):
    arrays = [f"Lattice {{ byte Labels }} @1{packing}"]
    lattice = "1048576 1024 1024"
    path = craft(tmp_path / "a.am", bytes(9805), lattice=lattice, arrays=arrays, first=first)
    tracemalloc.start()
    with pytest.raises(UnreadableFileError, match=r"cut off|more than a file|packed by"):
        open_volume(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_packed_volume_is_never_whole_in_memory(tmp_path):
    data = runs_of(bytes(64 * 512)) * 512
    arrays = [f"Lattice {{ byte Labels }} @1(HxByteRLE,{len(data)})"]
    path = craft(tmp_path / "a.am", data, lattice="512 512 64", arrays=arrays)
    tracemalloc.start()
    with open_volume(path) as reader:
        assert not reader.read(Roi(40, 0, 0, 1, 512, 512)).any()
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # A piece of the file, its runs as numbers, and what they stand for.
    assert peak < 2**27


def test_other_amira_files_are_refused(tmp_path):
    path = tmp_path / "surface.am"
    path.write_bytes(b"# HyperSurface 0.1 ASCII\n")
    assert AmiraReader.refusal(path) == "it does not begin like an AmiraMesh file"
    assert AmiraReader.refusal(tmp_path) == "it is a folder"
