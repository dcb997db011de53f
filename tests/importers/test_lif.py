import struct
import sys
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest

from biosegment.errors import ChoiceError, MissingExtraError, UnreadableFileError
from importers.detect import open_volume
from importers.lif import LifReader
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all


class TestLif(ReaderContract):
    reader = LifReader
    dtypes = ("uint8", "uint16")

    def write(self, folder, volume, voxel_size):
        return write(folder / "cells.lif", {"Series 1": volume[np.newaxis, :, np.newaxis]})


def element(tag, children="", **attributes):
    head = " ".join(f"{name}={quoteattr(str(value))}" for name, value in attributes.items())
    return f"<{tag} {head}>{children}</{tag}>"


def dimension(number, count, step_m, increment):
    length = step_m * max(count - 1, 1)
    return element(
        "DimensionDescription",
        DimID=number,
        NumberOfElements=count,
        Origin=0,
        Length=length,
        Unit="s" if number == 4 else "m",
        BitInc=0,
        BytesInc=increment,
    )


def image(name, memory, volumes, extra=()):
    """Describe an image (t, z, c, y, x), in the order in which Leica stores it."""
    t, z, c, y, x = volumes.shape
    size = volumes.itemsize
    channels = [
        element(
            "ChannelDescription",
            **{"DataType": 0, "ChannelTag": 0, "Resolution": 8 * size, "Unit": "", "BitInc": 0},
            **{"NameOfMeasuredQuantity": "", "Min": 0, "Max": 1, "LUTName": f"LUT {index}"},
            **{"IsLUTInverted": 0, "BytesInc": index * y * x * size},
        )
        for index in range(c)
    ]
    dimensions = [
        dimension(1, x, VOXEL_SIZE.x * 1e-9, size),
        dimension(2, y, VOXEL_SIZE.y * 1e-9, size * x),
        dimension(3, z, -VOXEL_SIZE.z * 1e-9, size * x * y * c),
        *([dimension(4, t, 1, size * x * y * c * z)] if t > 1 else []),
        *extra,
    ]
    parts = element("Channels", "".join(channels)) + element("Dimensions", "".join(dimensions))
    data = element("Data", element("Image", element("ImageDescription", parts)))
    stored = element("Memory", Size=volumes.nbytes, MemoryBlockID=memory)
    return element("Element", data + stored + "<Children/>", Name=name, UniqueID=memory)


def write(path, images, **options):
    names = {f"MemBlock_{index}": name for index, name in enumerate(images)}
    children = "".join(
        image(name, memory, images[name], **options) for memory, name in names.items()
    )
    project = element("Element", element("Children", children), Name="Project", UniqueID="p")
    text = element("LMSDataContainerHeader", project, Version=2)
    content = struct.pack("<IIBI", 0x70, 2 * len(text) + 5, 0x2A, len(text))
    content += text.encode("utf-16-le")
    for memory, name in names.items():
        label, data = memory.encode("utf-16-le"), images[name].tobytes()
        head = struct.pack("<BQBI", 0x2A, len(data), 0x2A, len(memory))
        content += struct.pack("<II", 0x70, len(head) + len(label)) + head + label + data
    path.write_bytes(content)
    return path


def test_channels_and_time_points_are_chosen_by_number(tmp_path):
    volumes = np.stack([example("uint16") + step for step in range(6)]).reshape(2, 3, *SHAPE)
    path = write(tmp_path / "cells.lif", {"Series 1": volumes.swapaxes(1, 2)})
    info = info_of(path)
    assert (info.shape, info.times, info.channels) == (SHAPE, 2, 3)
    assert info.channel_names == ("LUT 0", "LUT 1", "LUT 2")
    np.testing.assert_array_equal(read_all(path, time=1, channel=2), example("uint16") + 5)


def test_one_of_several_images_has_to_be_chosen(tmp_path):
    series = {
        "Series 1": example("uint8")[np.newaxis, :, np.newaxis],
        "Series 2": example("uint16")[np.newaxis, :3, np.newaxis],
    }
    path = write(tmp_path / "cells.lif", series)
    with pytest.raises(ChoiceError, match=r"2 datasets.*Series 1.*Series 2"):
        info_of(path)
    name = info_of(path, dataset="Series 2").dataset
    np.testing.assert_array_equal(read_all(path, dataset=name), example("uint16")[:3])


def test_a_single_image_is_a_volume_of_one_slice(tmp_path):
    path = write(tmp_path / "cells.lif", {"Image": example("uint8")[np.newaxis, :1, np.newaxis]})
    assert (info_of(path).shape, info_of(path).voxel_size) == ((1, 37, 53), None)


def test_a_mosaic_is_refused(tmp_path):
    volumes = example("uint8")[np.newaxis, :, np.newaxis]
    tiles = [dimension(10, 2, 0, volumes.nbytes)]
    with pytest.raises(UnreadableFileError, match="its axes are M 2"):
        open_volume(write(tmp_path / "cells.lif", {"Image": volumes}, extra=tiles))


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('NumberOfElements="5"', 'NumberOfElements="9"', "cut off"),
        ('NumberOfElements="5"', 'NumberOfElements="0"', "its axes are"),
        ('Resolution="8"', 'Resolution="0"', "damaged"),
        ('MemoryBlockID="MemBlock_0"', 'MemoryBlockID="MemBlock_1"', "damaged"),
        ('DimID="2"', 'DimID="4"', "its axes are"),
        ("<Image ", "<Imag2 ", "damaged"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, old, new, reason):
    path = write(tmp_path / "cells.lif", {"Image": example("uint8")[np.newaxis, :, np.newaxis]})
    before, after = old.encode("utf-16-le"), new.encode("utf-16-le")
    assert before in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(before, after))
    with pytest.raises(UnreadableFileError, match=reason):
        open_volume(path)


def test_a_header_of_absurd_length_is_not_read(tmp_path):
    path = tmp_path / "cells.lif"
    path.write_bytes(struct.pack("<IIBI", 0x70, 5, 0x2A, 2**32 - 1))
    with pytest.raises(UnreadableFileError, match="4294967295 letters"):
        open_volume(path)


def test_without_its_library_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "cells.lif", {"Image": example("uint8")[np.newaxis, :, np.newaxis]})
    monkeypatch.setitem(sys.modules, "liffile", None)
    with pytest.raises(MissingExtraError, match=r"biosegment\[lif\]"):
        open_volume(path)
