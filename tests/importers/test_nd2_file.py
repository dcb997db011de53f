import struct
import sys

import numpy as np
import pytest

from biosegment.errors import (
    ChoiceError,
    MissingExtraError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from biosegment.geometry import VoxelSize
from importers.detect import open_volume
from importers.nd2_file import Nd2Reader
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all

MAGIC = 0x0ABECEDA
TIME, POSITIONS, Z_STACK = 1, 2, 4


class TestNd2(ReaderContract):
    reader = Nd2Reader
    dtypes = ("uint8", "uint16", "float32")
    # There is one calibration for rows and columns.
    voxel_size = VoxelSize(VOXEL_SIZE.z, VOXEL_SIZE.x, VOXEL_SIZE.x)

    def write(self, folder, volume, voxel_size):
        return write(folder / "cells.nd2", volume[..., np.newaxis], [z_loop(len(volume))])


def variant(name, value):
    """Return a named value in the format's own binary form; dictionaries become levels."""
    label = f"{name}\0".encode("utf-16-le")
    head = bytes([len(label) // 2]) + label
    if isinstance(value, dict):
        items = b"".join(variant(*item) for item in value.items())
        length = 1 + len(head) + 12 + len(items)
        return (
            b"\x0b" + head + struct.pack("<IQ", len(value), length) + items + bytes(8 * len(value))
        )
    if isinstance(value, bool):
        return b"\x01" + head + struct.pack("<B", value)
    if isinstance(value, int):
        return b"\x03" + head + struct.pack("<I", value)
    if isinstance(value, float):
        return b"\x06" + head + struct.pack("<d", value)
    return b"\x08" + head + f"{value}\0".encode("utf-16-le")


def z_loop(count):
    pars = {"uiCount": count, "dZStep": VOXEL_SIZE.z / 1000, "dZLow": 0.0, "dZHigh": 1.0}
    return {"eType": Z_STACK, "uLoopPars": pars}


def time_loop(count):
    pars = {"uiCount": count, "dStart": 0.0, "dPeriod": 1.0, "dDuration": 1.0}
    return {"eType": TIME, "uLoopPars": pars}


def position_loop(count):
    points = {f"p{index}": {"dPosX": 1.0 * index, "dPosY": 0.0} for index in range(count)}
    return {"eType": POSITIONS, "uLoopPars": {"uiCount": count, "Points": points}}


def write(path, frames, loops, colours=1, calibrated=True, leave_out=()):
    """Write frames (n, y, x, channels times colours), the last loop's index being the fastest."""
    count, height, width, samples = frames.shape
    size = frames.itemsize
    rows = np.ascontiguousarray(frames).view("uint8").reshape(count, height, -1)
    # Rows are filled up to whole groups of four bytes.
    rows = np.pad(rows, ((0, 0), (0, 0), (0, -rows.shape[-1] % 4)))
    attributes = {
        "uiWidth": width,
        "uiWidthBytes": rows.shape[-1],
        "uiHeight": height,
        "uiComp": samples,
        "uiBpcInMemory": 8 * size,
        "uiBpcSignificant": 8 * size,
        "uiSequenceCount": count,
        "eCompression": 2,
    }
    planes = {
        f"a{index}": {
            "uiCompCount": colours,
            "sDescription": f"dye {index}",
            "pFluorescentProbe": {"m_sName": f"dye {index}"},
        }
        for index in range(samples // colours)
    }
    metadata = {
        "bCalibrated": calibrated,
        "dCalibration": VOXEL_SIZE.x / 1000,
        "sPicturePlanes": {"uiCount": len(planes), "sPlaneNew": planes},
    }
    experiment = {}
    for loop in reversed(loops):
        experiment = loop | ({"ppNextLevelEx": {"": experiment}} if experiment else {})
    chunks = {
        "ImageAttributesLV!": variant("SLxImageAttributes", attributes),
        "ImageMetadataSeqLV|0!": variant("SLxPictureMetadata", metadata),
        "ImageMetadataLV!": variant("SLxExperiment", experiment),
        "ImageTextInfoLV!": variant("SLxImageTextInfo", {"TextInfoItem_9": "1 May 2026"}),
    }
    for index in set(range(count)) - set(leave_out):
        chunks[f"ImageDataSeq|{index}!"] = bytes(8) + rows[index].tobytes()
    content = chunk("ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0".ljust(64, b"\0"), 32)
    directory = b""
    for name, data in chunks.items():
        directory += name.encode() + struct.pack("<QQ", len(content), len(data))
        content += chunk(name, data, 4072)
    last = b"ND2 CHUNK MAP SIGNATURE 0000001!" + struct.pack("<Q", len(content))
    path.write_bytes(content + chunk("ND2 FILEMAP SIGNATURE NAME 0001!", directory + last, 32))
    return path


def chunk(name, data, room):
    return struct.pack("<IIQ", MAGIC, room, len(data)) + name.encode().ljust(room, b"\0") + data


def stacks(count):
    """Return `count` stacks of two channels, one after the other."""
    return np.stack(
        [np.stack([example("uint16"), example("uint16") + 1], axis=-1) + 10 * step
         for step in range(count)]
    )  # fmt: skip


def test_channels_and_time_points_are_chosen_by_number(tmp_path):
    frames = stacks(3).reshape(15, 37, 53, 2)
    path = write(tmp_path / "cells.nd2", frames, [time_loop(3), z_loop(5)])
    info = info_of(path)
    assert (info.shape, info.times, info.channels) == (SHAPE, 3, 2)
    assert info.channel_names == ("dye 0", "dye 1")
    assert info.metadata == {"date": "1 May 2026"}
    np.testing.assert_array_equal(read_all(path, time=2, channel=1), example("uint16") + 21)


def test_time_may_run_within_z(tmp_path):
    frames = stacks(3).swapaxes(0, 1).reshape(15, 37, 53, 2)
    path = write(tmp_path / "cells.nd2", frames, [z_loop(5), time_loop(3)])
    np.testing.assert_array_equal(read_all(path, time=1, channel=0), example("uint16") + 10)


def test_one_of_several_positions_has_to_be_chosen(tmp_path):
    frames = stacks(2).reshape(10, 37, 53, 2)
    path = write(tmp_path / "cells.nd2", frames, [position_loop(2), z_loop(5)])
    for wanted in (None, "2"):
        with pytest.raises(ChoiceError, match=r"2 datasets \(0, 1\)"):
            info_of(path, dataset=wanted)
    assert info_of(path, dataset="1").dataset == "1"
    np.testing.assert_array_equal(read_all(path, dataset="1"), example("uint16") + 10)


def test_colours_are_channels(tmp_path):
    samples = np.stack([example("uint8") + shift for shift in range(3)], axis=-1)
    path = write(tmp_path / "cells.nd2", samples, [z_loop(5)], colours=3)
    assert info_of(path).channels == 3
    np.testing.assert_array_equal(read_all(path, channel=2), samples[..., 2])


def test_a_single_image_is_a_volume_of_one_slice(tmp_path):
    path = write(tmp_path / "cells.nd2", example("uint16")[:1, ..., np.newaxis], [])
    assert (info_of(path).shape, info_of(path).voxel_size) == ((1, 37, 53), None)
    np.testing.assert_array_equal(read_all(path), example("uint16")[:1])


def test_without_calibration_the_voxel_size_is_unknown(tmp_path):
    frames = example("uint16")[..., np.newaxis]
    assert (
        info_of(write(tmp_path / "a.nd2", frames, [z_loop(5)], calibrated=False)).voxel_size is None
    )


@pytest.mark.parametrize("frame", [0, 3, 4])
def test_a_missing_frame_is_noticed(tmp_path, frame):
    frames = example("uint16")[..., np.newaxis]
    path = write(tmp_path / "cells.nd2", frames, [z_loop(5)], leave_out=[frame])
    with pytest.raises(UnreadableFileError, match=f"frame {frame} of 5 is missing"):
        open_volume(path)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("uiCount", 2**31, "frame 5 of 2147483648 is missing"),
        ("uiHeight", 2**31, "it says a slice is 2147483648 x 53"),
        ("uiWidth", 55, "it says a slice is 37 x 55"),
        ("uiHeight", 0, "it says a slice is 0 x 53"),
        ("uiComp", 0, "damaged|a slice is"),
        ("uiBpcInMemory", 24, "damaged"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, name, value, reason):
    path = write(tmp_path / "cells.nd2", example("uint16")[..., np.newaxis], [z_loop(5)])
    content = bytearray(path.read_bytes())
    label = f"{name}\0".encode("utf-16-le")
    # The experiment, which counts the slices, comes after the channels.
    struct.pack_into("<I", content, content.rindex(label) + len(label), value)
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=reason):
        open_volume(path)


def test_files_of_old_are_refused_with_advice(tmp_path):
    path = tmp_path / "cells.nd2"
    path.write_bytes(b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100))
    with pytest.raises(UnsupportedFormatError, match="save it anew with NIS-Elements"):
        open_volume(path)


def test_without_its_library_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "cells.nd2", example("uint16")[..., np.newaxis], [z_loop(5)])
    monkeypatch.setitem(sys.modules, "nd2", None)
    with pytest.raises(MissingExtraError, match=r"biosegment\[nd2\]"):
        open_volume(path)
