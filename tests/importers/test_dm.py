import struct
import sys

import numpy as np
import pytest
from rsciio.digitalmicrograph import file_reader

from biosegment.errors import ChoiceError, MissingExtraError, UnreadableFileError
from importers.detect import open_volume
from importers.dm import DmReader
from importers.testing import VOXEL_SIZE, ReaderContract, example, info_of, read_all

DATA_TYPES = {"int16": 1, "float32": 2, "uint8": 6, "int32": 7, "int8": 9, "uint16": 10}
DATA_TYPES |= {"uint32": 11, "float64": 12}
ELEMENTS = {"i2": 2, "i4": 3, "u2": 4, "u4": 5, "f4": 6, "f8": 7, "i1": 9, "u1": 10}


class TestDm4(ReaderContract):
    reader = DmReader
    dtypes = tuple(DATA_TYPES)

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.dm4", [image(volume)])


class TestDm3(ReaderContract):
    reader = DmReader
    dtypes = ("int16", "uint8")

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.dm3", [image(volume)], version=3)


def image(volume, units="nm", **more):
    """Return the tags of an image, as DigitalMicrograph arranges them."""
    kind = DATA_TYPES[volume.dtype.name]
    scales = [1000.0, *VOXEL_SIZE.zyx][-volume.ndim :][::-1]
    axes = [{"Origin": 0.0, "Scale": scale, "Units": units} for scale in scales]
    data = {
        "Calibrations": {"Dimension": axes},
        "Data": volume.ravel(),
        "DataType": kind,
        "Dimensions": list(volume.shape[::-1]),
        "PixelDepth": volume.itemsize,
    }
    return {"ImageData": data | more, "Name": "Stack", "ImageTags": {}}


def write(path, images, version=4, order="<", thumbnails=()):
    """Write a DM3 or DM4 file tag by tag; lists become groups without names."""
    number = ">I" if version == 3 else ">Q"

    def tag(name, value):
        head = struct.pack(">H", len(name)) + name.encode("latin-1")
        if isinstance(value, dict | list):
            length, content = b"\x14", group(value)
        else:
            length, content = b"\x15", data(value)
        size = b"" if version == 3 else struct.pack(">Q", len(content))
        return length + head + size + content

    def group(value):
        items = value.items() if isinstance(value, dict) else [("", each) for each in value]
        return b"\1\0" + struct.pack(number, len(items)) + b"".join(tag(*item) for item in items)

    def data(value):
        if isinstance(value, str):
            value = np.frombuffer(value.encode("utf-16-le"), "<u2")
        if isinstance(value, np.ndarray):
            info = (20, ELEMENTS[value.dtype.str[1:]], value.size)
            content = value.astype(value.dtype.newbyteorder(order)).tobytes()
        elif isinstance(value, float):
            info, content = (7,), struct.pack(order + "d", value)
        else:
            info, content = (5,), struct.pack(order + "I", value)
        numbers = b"".join(struct.pack(number, each) for each in (len(info), *info))
        return b"%%%%" + numbers + content

    root = {"ImageList": images, "Thumbnails": [{"ImageIndex": index} for index in thumbnails]}
    content = group(root)
    content = struct.pack(number, len(content)) + struct.pack(">I", order == "<") + content
    path.write_bytes(struct.pack(">I", version) + content + bytes(8))
    return path


@pytest.mark.parametrize(
    ("name", "shape", "zyx_nm"),
    [
        ("rosettasciio/test-1.dm3", (2, 2, 2), None),
        ("openNCEM/dmTest_3D_int16_64,65,66.dm4", (66, 65, 64), (4000, 3, 0.002)),
    ],
)
def test_real_files_read_as_rosettasciio_reads_them(real_formats, name, shape, zyx_nm):
    path = real_formats / name
    (truth,) = file_reader(path, lazy=False)
    info = info_of(path)
    assert (info.shape, info.dtype, info.dataset) == (
        shape,
        np.int16,
        truth["metadata"]["General"]["title"],
    )
    assert (info.voxel_size and info.voxel_size.zyx) == zyx_nm
    np.testing.assert_array_equal(read_all(path), truth["data"])


def test_what_is_written_here_is_what_rosettasciio_understands(tmp_path):
    (read,) = file_reader(write(tmp_path / "stack.dm4", [image(example("uint16"))]), lazy=False)
    assert [(axis["scale"], axis["units"]) for axis in read["axes"]] == [
        (40.0, "nm"),
        (5.0, "nm"),
        (4.0, "nm"),
    ]
    np.testing.assert_array_equal(read["data"], example("uint16"))


def test_big_endian_voxels_are_read(tmp_path):
    path = write(tmp_path / "stack.dm3", [image(example("int16"))], version=3, order=">")
    np.testing.assert_array_equal(read_all(path), example("int16"))


def test_a_single_image_is_a_volume_of_one_slice(tmp_path):
    path = write(tmp_path / "slice.dm4", [image(example("int16")[0])])
    assert (info_of(path).shape, info_of(path).voxel_size) == ((1, 37, 53), None)
    assert info_of(path).metadata["pixel size"] == "5 x 4 nm (y, x)"
    np.testing.assert_array_equal(read_all(path)[0], example("int16")[0])


@pytest.mark.parametrize("units", ["1/nm", "", "eV", "pixel"])
def test_a_unit_that_is_no_length_leaves_the_voxel_size_unknown(tmp_path, units):
    path = write(tmp_path / "stack.dm4", [image(example("int16"), units=units)])
    assert info_of(path).voxel_size is None


def test_micrometres_are_understood(tmp_path):
    path = write(tmp_path / "stack.dm4", [image(example("int16"), units="µm")])
    assert info_of(path).voxel_size.zyx == pytest.approx((40e3, 5e3, 4e3))


def test_thumbnails_are_not_asked_about(tmp_path):
    thumbnail = image(example("uint8")[0]) | {"Name": "Thumbnail"}
    stack = image(example("int16"))
    path = write(tmp_path / "stack.dm4", [thumbnail, stack], thumbnails=[0])
    np.testing.assert_array_equal(read_all(path), example("int16"))


def test_one_of_several_images_has_to_be_chosen(tmp_path):
    images = [image(example("int16") + shift) for shift in range(3)]
    images[2]["Name"] = "HAADF"
    path = write(tmp_path / "stack.dm4", images)
    for wanted in (None, "BF"):
        with pytest.raises(ChoiceError, match="Stack, Stack 2, HAADF"):
            info_of(path, dataset=wanted)
    assert info_of(path, dataset="HAADF").dataset == "HAADF"
    np.testing.assert_array_equal(read_all(path, dataset="Stack 2"), example("int16") + 1)


def test_colours_are_channels_by_name(tmp_path):
    samples = np.stack([example("uint8") + shift for shift in range(4)], axis=-1)
    stack = image(example("uint8"), Data=samples.view("<u4").ravel(), DataType=23)
    path = write(tmp_path / "stack.dm4", [stack])
    assert info_of(path).channel_names == ("blue", "green", "red", "alpha")
    np.testing.assert_array_equal(read_all(path, channel=2), samples[..., 2])


def test_what_is_told_of_the_acquisition_is_kept(tmp_path):
    stack = image(example("int16"))
    microscope = {"Voltage": 2000.0, "Stage Position": {"Stage X": 1.5}, "Name": "Gemini"}
    stack["ImageTags"] = {"Microscope Info": microscope, "Private": {"Notes": "none"}}
    assert info_of(write(tmp_path / "stack.dm4", [stack])).metadata == {
        "Microscope Info.Voltage": "2000.0",
        "Microscope Info.Stage Position.Stage X": "1.5",
        "Microscope Info.Name": "Gemini",
    }


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"Dimensions": [1 << 14, 1 << 13, 1 << 13]}, "it should hold 8192 x 8192 x 16384"),
        ({"Dimensions": [53, 37, 0]}, "it says it is 0 x 37 x 53"),
        ({"Dimensions": [9805]}, "it has 1 axes"),
        ({"Dimensions": [53, 37, 5, 2]}, "it has 4 axes"),
        ({"DataType": 3}, "no real numbers"),
        ({"DataType": 5}, "no real numbers"),
        ({"Data": "short"}, "it should hold"),
        ({"Data": 7}, "damaged"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, changes, reason):
    path = write(tmp_path / "stack.dm4", [image(example("int16"), **changes)])
    with pytest.raises(UnreadableFileError, match=reason):
        open_volume(path)


def test_a_tag_of_absurd_length_is_refused_at_once(tmp_path):
    stack = image(example("int16"))
    stack["ImageTags"] = {"Noise": np.arange(77, dtype="u2")}
    path = write(tmp_path / "stack.dm4", [stack])
    for length in (2**62, -1):
        content = path.read_bytes().replace(
            struct.pack(">4Q", 3, 20, 4, 77), struct.pack(">3Qq", 3, 20, 4, length)
        )
        path.write_bytes(content)
        with pytest.raises(UnreadableFileError, match=f"a tag of {length} numbers"):
            open_volume(path)
        write(path, [stack])


def test_a_file_without_an_image_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match="no image"):
        open_volume(write(tmp_path / "stack.dm4", [image(example("int16"))], thumbnails=[0]))


def test_without_its_library_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "stack.dm4", [image(example("int16"))])
    monkeypatch.setitem(sys.modules, "rsciio.digitalmicrograph._api", None)
    with pytest.raises(MissingExtraError, match=r'stack\.dm4 needs .*"biosegment\[dm\]"'):
        open_volume(path)
