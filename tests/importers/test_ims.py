import h5py
import numpy as np
import pytest

from biosegment.errors import ChoiceError, UnreadableFileError, UnsupportedFormatError
from biosegment.geometry import Roi
from importers.base import Choice
from importers.detect import open_volume
from importers.ims import ImsReader
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example

PADDED = (8, 64, 64)


def text(value):
    """A text as Imaris stores it."""
    return np.frombuffer(str(value).encode(), "S1")


def write(path, volumes, voxel_size=VOXEL_SIZE, **image):
    """Write volumes, nested lists by time and channel, as the specification describes them."""
    with h5py.File(path, "w") as file:
        file.attrs["ImarisDataSet"] = text("ImarisDataSet")
        info = file.create_group("DataSetInfo/Image").attrs
        info["Unit"] = text("um")
        shape = volumes[0][0].shape
        for axis, (size, edge) in enumerate(zip(shape[::-1], voxel_size.zyx[::-1], strict=True)):
            info[f"ExtMin{axis}"] = text(-1.5)
            info[f"ExtMax{axis}"] = text(f"{size * edge / 1000 - 1.5:.9f}")
        for name, value in image.items():
            info[name] = text(value)
        for channel in range(len(volumes[0])):
            file.create_group(f"DataSetInfo/Channel {channel}").attrs["Name"] = text(
                f"dye {channel}"
            )
        for time, channels in enumerate(volumes):
            for channel, volume in enumerate(channels):
                place = f"DataSet/ResolutionLevel 0/TimePoint {time}/Channel {channel}"
                write_channel(file.create_group(place), volume)
    return path


def write_channel(group, volume):
    for axis, size in zip("ZYX", volume.shape, strict=True):
        group.attrs[f"ImageSize{axis}"] = text(size)
    padding = [(0, most - size) for most, size in zip(PADDED, volume.shape, strict=True)]
    padded = np.pad(volume, padding)
    group.create_dataset("Data", data=padded, chunks=(4, 32, 32), compression="gzip")


class TestIms(ReaderContract):
    reader = ImsReader
    dtypes = ("uint8", "uint16", "uint32", "float32")

    def write(self, folder, volume, voxel_size):
        return write(folder / "cells.ims", [[volume]], voxel_size)


@pytest.fixture
def cells(tmp_path):
    """Three time points of two channels."""
    volumes = [[example("uint16") + 10 * time + c for c in range(2)] for time in range(3)]
    return write(tmp_path / "cells.ims", volumes, Name="cells", Description="(name not specified)")


def test_channels_and_times_are_chosen(cells):
    with open_volume(cells, Choice(channel=1, time=2)) as reader:
        reader.check_chosen()
        assert reader.info.channel_names == ("dye 0", "dye 1")
        assert (reader.info.times, reader.info.metadata) == (3, {"Name": "cells"})
        np.testing.assert_array_equal(reader.read(Roi.whole(SHAPE)), example("uint16") + 21)


def test_what_is_not_there_cannot_be_chosen(cells):
    with (
        open_volume(cells, Choice(channel=2, time=0)) as reader,
        pytest.raises(ChoiceError, match="no channel 2"),
    ):
        reader.check_chosen()
    with pytest.raises(ChoiceError, match="no dataset ResolutionLevel 1"):
        open_volume(cells, Choice(dataset="ResolutionLevel 1"))


def test_a_coarser_level_has_larger_voxels(cells):
    with h5py.File(cells, "a") as file:
        group = file.create_group("DataSet/ResolutionLevel 1/TimePoint 0/Channel 0")
        write_channel(group, example("uint16")[:, :36:2, :52:2])
    with open_volume(cells, Choice(dataset="ResolutionLevel 1")) as reader:
        assert reader.info.shape == (5, 18, 26)
        edges = (40, 5 * 37 / 18, 4 * 53 / 26)
        assert reader.info.voxel_size.zyx == pytest.approx(edges)


def test_a_file_by_another_name_is_known_by_its_content(cells):
    with open_volume(cells.rename(cells.with_suffix(".data")), Choice(channel=0, time=0)) as reader:
        assert type(reader) is ImsReader


def test_other_hdf5_files_are_left_to_others(tmp_path):
    path = tmp_path / "stack.h5"
    with h5py.File(path, "w") as file:
        file["raw"] = example("uint8")
    assert "no DataSet" in ImsReader.refusal(path)


@pytest.mark.parametrize("unit", ["", "pixel"])
def test_a_unit_that_is_no_length_leaves_the_voxel_size_unknown(tmp_path, unit):
    path = write(tmp_path / "cells.ims", [[example("uint8")]], Unit=f"{unit} ")
    with open_volume(path) as reader:
        assert reader.info.voxel_size is None


def test_a_micro_sign_in_any_encoding_is_a_unit(tmp_path):
    path = write(tmp_path / "cells.ims", [[example("uint8")]])
    for unit in ("µm".encode(), "µm".encode("latin-1"), "µm"):
        with h5py.File(path, "a") as file:
            is_text = isinstance(unit, str)
            file["DataSetInfo/Image"].attrs["Unit"] = unit if is_text else np.frombuffer(unit, "S1")
        with open_volume(path) as reader:
            assert reader.info.voxel_size.zyx == pytest.approx(VOXEL_SIZE.zyx)


@pytest.mark.parametrize("size", ["0", "-3", "65", "1e3", "many"])
def test_an_impossible_size_is_refused(tmp_path, size):
    path = write(tmp_path / "cells.ims", [[example("uint8")]])
    with h5py.File(path, "a") as file:
        file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 0"].attrs["ImageSizeX"] = text(size)
    with pytest.raises(UnreadableFileError):
        open_volume(path)


@pytest.mark.parametrize(
    "place",
    [
        "DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data",
        "DataSet/ResolutionLevel 0/TimePoint 0/Channel 0",
        "DataSet/ResolutionLevel 0/TimePoint 0",
        "DataSetInfo/Image",
    ],
)
def test_missing_parts_are_refused(tmp_path, place):
    path = write(tmp_path / "cells.ims", [[example("uint8")]])
    with h5py.File(path, "a") as file:
        del file[place]
    with pytest.raises(UnreadableFileError, match=path.name):
        open_volume(path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "cells.ims").touch()
    with pytest.raises(UnsupportedFormatError, match="ims: it does not begin like an HDF5 file"):
        open_volume(tmp_path / "cells.ims")


def test_files_that_the_vendors_writer_wrote(real_formats):
    path = real_formats / "ims/ref_small.ims"
    with open_volume(path, Choice(channel=1)) as reader, h5py.File(path) as file:
        assert reader.info.shape == (12, 64, 80)
        assert reader.info.voxel_size.zyx == pytest.approx((25, 8, 8), rel=1e-6)
        assert reader.info.channel_names == ("raw", "labels")
        stored = file["DataSet/ResolutionLevel 0/TimePoint 0/Channel 1/Data"][:12, :64, :80]
        np.testing.assert_array_equal(reader.read(Roi.whole(reader.info.shape)), stored)
    with open_volume(real_formats / "ImarisWriter/Minimal_IMS_File.ims") as reader:
        assert (reader.info.shape, reader.info.voxel_size) == ((1, 128, 128), None)
