import gzip

import nrrd
import numpy as np
import pytest

from biosegment.errors import UnreadableFileError
from importers.detect import open_volume
from importers.nrrd_file import NrrdReader
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all

XYZ_NM = VOXEL_SIZE.zyx[::-1]
DTYPES = ("uint8", "int8", "uint16", "int16", "uint32", "int64", "float32", "float64")


class TestGzippedNrrd(ReaderContract):
    reader = NrrdReader
    dtypes = DTYPES

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.nrrd", volume)


class TestRawNrrd(ReaderContract):
    reader = NrrdReader
    dtypes = ("uint16", "float32")

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.nrrd", volume, encoding="raw", endian="big")


class TestTextNrrd(ReaderContract):
    reader = NrrdReader
    dtypes = ("uint8", "int16", "float32")

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.nrrd", volume, encoding="ascii")


class TestDetachedNrrd(ReaderContract):
    reader = NrrdReader
    dtypes = ("uint8", "uint16")

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.nhdr", volume, encoding="bzip2")

    def cut(self, path):
        super().cut(path.with_name("stack.raw.bz2"))


def write(path, volume, encoding="gzip", **fields):
    header = {"spacings": XYZ_NM, "units": ["nm"] * 3, "encoding": encoding} | fields
    nrrd.write(str(path), volume, header, index_order="C")
    return path


def craft(path, data=None, **fields):
    """Write a header line by line, as its fields come, and raw data behind it."""
    usual = {"type": "uint8", "dimension": 3, "sizes": "53 37 5", "encoding": "raw"}
    lines = [
        f"{name.replace('_', ' ')}: {value}"
        for name, value in (usual | fields).items()
        if value is not None
    ]
    data = example("uint8").tobytes() if data is None else data
    path.write_bytes("\n".join(["NRRD0005", "# by hand", *lines, "", ""]).encode() + data)
    return path


def test_a_real_file_reads_as_its_own_library_reads_it(real_formats):
    path = real_formats / "pynrrd" / "BallBinary30x30x30_gz.nrrd"
    assert (info_of(path).shape, info_of(path).dtype) == ((30, 30, 30), np.int16)
    assert info_of(path).voxel_size.zyx == (1e6, 1e6, 1e6)
    np.testing.assert_array_equal(read_all(path), nrrd.read(str(path), index_order="C")[0])


def test_segments_of_slicer_are_label_values_with_their_names_told(real_formats):
    path = real_formats / "slicer" / "Segmentation.seg.nrrd"
    info = info_of(path)
    assert (info.shape, info.dtype) == ((34, 128, 128), np.uint8)
    assert info.voxel_size.zyx == pytest.approx((1e7, 3046875.95, 3046875.95))
    assert (info.metadata["Segment5_LabelValue"], info.metadata["Segment5_Name"]) == (
        "6",
        "left lung",
    )
    assert np.unique(read_all(path)).tolist() == list(range(8))
    assert sorted(info.label_names) == list(range(1, 8))
    assert info.label_names[6] == "left lung"


def test_overlapping_segments_of_slicer_are_channels(real_formats):
    path = real_formats / "slicer" / "SegmentationOverlapping.seg.nrrd"
    truth = nrrd.read(str(path), index_order="C")[0]
    info = info_of(path)
    assert (info.shape, info.channels) == ((34, 128, 128), 2)
    assert info.voxel_size.zyx == pytest.approx((1e7, 3046875.95, 3046875.95))
    np.testing.assert_array_equal(read_all(path, channel=1), truth[..., 1])


@pytest.mark.parametrize(
    ("fields", "zyx_nm"),
    [
        ({"spacings": "4 5 40", "units": '"nm" "nm" "nm"'}, (40, 5, 4)),
        ({"spacings": "4 5 40", "units": '"um" "um" "µm"'}, (40e3, 5e3, 4e3)),
        ({"spacings": "4 5 40"}, None),
        ({"spacings": "4 5 40", "units": '"" "" ""'}, None),
        ({"spacings": "4 5 nan", "units": '"nm" "nm" "nm"'}, None),
        ({}, None),
        ({"space": "left-posterior-superior", "space_directions": "(4,0,0) (0,-5,0) (0,0,40)"},
         (40e6, 5e6, 4e6)),
        ({"space": "RAS", "space_directions": "(0,4,0) (0,0,5) (40,0,0)"}, (40e6, 5e6, 4e6)),
        ({"space_dimension": 3, "space_directions": "(4,0,0) (0,5,0) (0,0,40)"}, None),
        ({"space_dimension": 3, "space_directions": "(4,0,0) (0,5,0) (0,0,40)",
          "space_units": '"nm" "nm" "um"'}, (40e3, 5, 4)),
        ({"space": "LPS", "space_directions": "(3,4,0) (-4,3,0) (0,0,40)"}, (40e6, 5e6, 5e6)),
        ({"space": "LPS", "space_directions": "(4,0,0) (4,4,0) (0,0,40)"}, None),
        ({"space": "LPS", "space_directions": "(4,0,0) (0,5,0) (0,0,0)"}, None),
    ],
)  # fmt: skip
def test_lengths_are_known_where_their_unit_is(tmp_path, fields, zyx_nm):
    voxel_size = info_of(craft(tmp_path / "stack.nrrd", **fields)).voxel_size
    if zyx_nm is None:
        assert voxel_size is None
    else:
        assert voxel_size.zyx == pytest.approx(zyx_nm)


@pytest.mark.parametrize(
    ("kinds", "sizes", "channels", "times"),
    [
        ("vector domain domain domain", "2 53 37 5", 2, 1),
        ("RGB-color space space space", "3 53 37 5", 3, 1),
        ("domain domain domain time", "53 37 5 2", 1, 2),
        ("domain domain domain list time", "53 37 5 2 3", 2, 3),
    ],
)
def test_other_axes_are_channels_or_time(tmp_path, kinds, sizes, channels, times):
    count = channels * times
    volumes = np.stack([example("uint8") + step for step in range(count)])
    fastest = np.moveaxis(volumes, 0, -1) if sizes.endswith(" 5") else volumes
    path = craft(
        tmp_path / "stack.nrrd",
        fastest.tobytes(),
        dimension=len(sizes.split()),
        sizes=sizes,
        kinds=kinds,
    )
    info = info_of(path)
    assert (info.shape, info.channels, info.times) == (SHAPE, channels, times)
    last = read_all(path, channel=channels - 1, time=times - 1)
    np.testing.assert_array_equal(last, volumes[-1])


def test_a_single_image_is_a_volume_of_one_slice(tmp_path):
    path = craft(tmp_path / "slice.nrrd", dimension=2, sizes="53 185", spacings="4 5")
    assert (info_of(path).shape, info_of(path).voxel_size) == ((1, 185, 53), None)


@pytest.mark.parametrize(
    ("fields", "before", "behind"),
    [
        ({"byte_skip": 3}, b"\x01\x02\x03", b""),
        ({"byte_skip": -1}, b"anything", b""),
        ({"line_skip": 2}, b"a line\nanother\n", b""),
        ({"line_skip": 1, "byte_skip": 2}, b"a line\n\x01\x02", b""),
        ({}, b"", b"trailing"),
    ],
)
def test_what_is_to_be_skipped_is_skipped(tmp_path, fields, before, behind):
    volume = example("uint8")
    path = craft(tmp_path / "stack.nrrd", before + volume.tobytes() + behind, **fields)
    np.testing.assert_array_equal(read_all(path), volume)


def test_bytes_are_skipped_in_what_was_unpacked_and_lines_before(tmp_path):
    packed = b"a line\n" + gzip.compress(b"\x01\x02" + example("uint8").tobytes())
    path = craft(tmp_path / "stack.nrrd", packed, encoding="gz", line_skip=1, byte_skip=2)
    np.testing.assert_array_equal(read_all(path), example("uint8"))


def test_detached_data_belong_to_the_files_of_the_volume(tmp_path):
    (tmp_path / "voxels").mkdir()
    (tmp_path / "voxels" / "a.raw").write_bytes(example("uint8").tobytes())
    path = craft(tmp_path / "stack.nhdr", b"", data_file="voxels/a.raw")
    assert info_of(path).files == (path, tmp_path / "voxels" / "a.raw")
    np.testing.assert_array_equal(read_all(path), example("uint8"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"sizes": "16384 8192 8192"}, "cut off"),
        ({"sizes": "1e300 2 2"}, "it says it is|cut off"),
        ({"sizes": "53 -37 5"}, "5 x -37 x 53"),
        ({"sizes": "53 37"}, "says it has 3 axes"),
        ({"dimension": 4, "sizes": "53 37 5 1"}, "kinds should tell"),
        ({"dimension": 1, "sizes": "9805"}, "it has 1 axes"),
        ({"type": "block"}, "damaged"),
        ({"type": "uint16"}, "endian"),
        ({"type": "uint16", "endian": "middle"}, "endian"),
        ({"type": None}, "type"),
        ({"encoding": "hex"}, "its encoding is hex"),
        ({"encoding": "gzip"}, "damaged"),
        ({"encoding": "gzip", "sizes": "16384 8192 8192"}, "more than a file of its size can pack"),
        ({"encoding": "text"}, "more than a file of its size can pack"),
        ({"encoding": "text", "sizes": "16384 8192 8192"}, "more than a file of its size can pack"),
        ({"encoding": "bzip2"}, "damaged"),
        ({"data_file": "gone.raw"}, "gone.raw"),
        ({"data_file": "slice%03d.raw 1 5 1"}, "several files"),
        ({"line_skip": 2**31}, "data are missing"),
        ({"byte_skip": -7}, "-7 bytes are to be skipped"),
        ({"byte_skip": -1, "encoding": "gzip"}, "before its gzip data"),
        ({"byte_skip": 2**40}, "cut off"),
        ({"kinds": "domain vector vector"}, "kinds should tell"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, fields, reason):
    path = craft(tmp_path / "stack.nrrd", **fields)
    with pytest.raises(UnreadableFileError, match=reason):
        open_volume(path)


def test_a_header_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("importers.nrrd_file._LONGEST_HEADER_BYTES", 1000)
    path = tmp_path / "stack.nrrd"
    path.write_bytes(b"NRRD0005\n" + b"a:=b\n" * 300)
    with pytest.raises(UnreadableFileError, match="does not end"):
        open_volume(path)


def test_text_that_is_no_number_is_refused(tmp_path):
    path = craft(tmp_path / "stack.nrrd", b"1 2 x " * 4000, encoding="text")
    with pytest.raises(UnreadableFileError, match="damaged"):
        open_volume(path)
