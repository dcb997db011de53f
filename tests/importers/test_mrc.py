import gzip
import struct

import mrcfile
import numpy as np
import pytest

from biosegment.errors import UnreadableFileError
from biosegment.geometry import VoxelSize
from importers.detect import open_volume
from importers.mrc import MrcReader
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all

# Where the fields of a header stand, counted from its start.
MODE, MZ, MAPC, SPACE_GROUP, EXTENDED, WORD_MAP = 12, 36, 64, 88, 92, 208
IMOD_STAMP = 152


class TestMrc(ReaderContract):
    reader = MrcReader
    dtypes = ("int8", "int16", "uint16", "float32", "float16")

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.mrc", volume, voxel_size)


class TestGzippedMrc(ReaderContract):
    reader = MrcReader
    dtypes = ("int16", "float32")

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.map.gz", volume, voxel_size, compression="gzip")


def write(path, volume, voxel_size=VOXEL_SIZE, **options):
    with mrcfile.new(path, data=volume, **options) as mrc:
        mrc.voxel_size = tuple(edge * 10 for edge in voxel_size.zyx[::-1])
        mrc.add_label("cut by hand")
    return path


def patch(path, offset, kind, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + kind, content, offset, *values)
    path.write_bytes(content)
    return path


def test_real_maps_read_as_their_own_library_reads_them(real_formats):
    folder = real_formats / "mrcfile"
    with mrcfile.mmap(folder / "EMD-3197.map") as mrc:
        truth = np.array(mrc.data)
    for name in ("EMD-3197.map", "emd_3197.map.gz"):
        info = info_of(folder / name)
        assert info.shape == (20, 20, 20)
        assert info.voxel_size.zyx == pytest.approx((1.14, 1.14, 1.14))
        assert "EMD-3197" in info.metadata["label 1"]
        np.testing.assert_array_equal(read_all(folder / name), truth)


def test_big_endian_files_are_read(tmp_path):
    path = tmp_path / "sgi.mrc"
    volume = example("int16")
    header = bytearray(1024)
    struct.pack_into(">10i", header, 0, *SHAPE[::-1], 1, 0, 0, 0, *SHAPE[::-1])
    struct.pack_into(">3f", header, 40, 53 * 40, 37 * 50, 5 * 400)
    path.write_bytes(bytes(header) + volume.astype(">i2").tobytes())
    assert info_of(path).voxel_size.zyx == pytest.approx((40, 5, 4))
    np.testing.assert_array_equal(read_all(path), volume)


def test_without_the_word_map_only_a_usual_name_is_believed(tmp_path):
    path = patch(write(tmp_path / "old.st", example("int16")), WORD_MAP, "4x")
    np.testing.assert_array_equal(read_all(path), example("int16"))
    assert MrcReader.refusal(path.rename(tmp_path / "old.dat"))


@pytest.mark.parametrize(("flags", "dtype"), [(0, "uint8"), (1, "int8"), (4, "uint8")])
def test_imods_stamp_tells_signed_bytes_from_unsigned(tmp_path, flags, dtype):
    volume = example("uint8")
    path = write(tmp_path / "stack.rec", volume.view("int8"))
    patch(path, IMOD_STAMP, "ii", 1146047817, flags)
    assert info_of(path).dtype == dtype
    np.testing.assert_array_equal(read_all(path), volume.view(dtype))


def test_a_maximum_that_no_signed_byte_reaches_tells_unsigned_ones(tmp_path):
    path = write(tmp_path / "stack.mrc", example("uint8").view("int8"))
    patch(path, 76, "3f", 0, 215, 100)
    np.testing.assert_array_equal(read_all(path), example("uint8"))


def test_a_longer_header_is_skipped(tmp_path):
    path = tmp_path / "stack.mrc"
    with mrcfile.new(path, data=example("uint16")) as mrc:
        mrc.set_extended_header(np.frombuffer(bytes(range(200)) * 7, "V1400"))
    np.testing.assert_array_equal(read_all(path), example("uint16"))


def test_colours_are_channels(tmp_path):
    path = write(
        tmp_path / "stack.mrc", np.stack([example("int8")] * 3, axis=0).reshape(15, 37, 53)
    )
    content = bytearray(path.read_bytes())
    colours = np.stack([example("uint8") + shift for shift in range(3)], axis=-1)
    content[1024:] = colours.tobytes()
    struct.pack_into("<4i", content, 0, *SHAPE[::-1], 16)
    path.write_bytes(content)
    assert info_of(path).channels == 3
    np.testing.assert_array_equal(read_all(path, channel=2), example("uint8") + 2)


def test_volumes_of_a_stack_of_volumes_are_time_points(tmp_path):
    volumes = np.stack([example("float32"), example("float32") + 1])
    path = tmp_path / "stack.mrc"
    mrcfile.write(path, volumes)
    assert (info_of(path).times, info_of(path).shape) == (2, SHAPE)
    np.testing.assert_array_equal(read_all(path, time=1), volumes[1])


def test_sizes_follow_the_axes_of_the_cell(tmp_path):
    path = write(tmp_path / "stack.ccp4", example("float32"))
    # Columns lie along z, rows along x, sections along y; the cell is 53 z, 37 x and 5 y steps.
    patch(path, MZ - 8, "3i3f", 37, 5, 53, 37 * 50, 5 * 400, 53 * 40)
    patch(path, MAPC, "3i", 3, 1, 2)
    assert info_of(path).voxel_size.zyx == pytest.approx((40, 5, 4))


@pytest.mark.parametrize(
    ("steps", "lengths"),
    [
        ((53, 37, 5), (0, 0, 0)),
        ((53, 37, 5), (53, 37, -5)),
        ((0, 0, 0), (53, 37, 5)),
        ((53, 37, 5), (float("nan"), 37, 5)),
    ],
)
def test_an_impossible_voxel_size_is_unknown(tmp_path, steps, lengths):
    path = write(tmp_path / "stack.mrc", example("int16"))
    patch(path, MZ - 8, "3i3f", *steps, *lengths)
    assert info_of(path).voxel_size is None


@pytest.mark.parametrize(
    ("offset", "kind", "value", "reason"),
    [
        (0, "3i", (1 << 14, 1 << 13, 1 << 13), "cut off"),
        (0, "i", (-53,), "no size above 0"),
        (MODE, "i", (7,), "no type of voxels"),
        (MODE, "i", (4,), "complex"),
        (MODE, "i", (101,), "two voxels"),
        (EXTENDED, "i", (2**31 - 1,), "cut off"),
        (EXTENDED, "i", (-2000,), "from byte -976"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, offset, kind, value, reason):
    path = patch(write(tmp_path / "stack.mrc", example("int16")), offset, kind, *value)
    with pytest.raises(UnreadableFileError, match=reason):
        open_volume(path)
    packed = path.with_name("stack.mrc.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UnreadableFileError):
        open_volume(packed)


def test_a_gzipped_header_may_promise_what_it_likes(tmp_path):
    path = write(tmp_path / "stack.mrc", example("int16"))
    packed = tmp_path / "stack.mrc.gz"
    for extent in (2**7, 2**10, 2**20, 2**31 - 1):
        patch(path, 0, "3i", extent, extent, extent)
        packed.write_bytes(gzip.compress(path.read_bytes()))
        with pytest.raises(UnreadableFileError, match=r"can pack|cut off"):
            open_volume(packed)


def test_a_voxel_size_of_one_angstrom_is_doubted(tmp_path):
    path = write(tmp_path / "stack.mrc", example("int16"), VoxelSize(0.1, 0.1, 0.1))
    (notice,) = info_of(path).notices
    assert "1 Angstrom" in notice
    assert info_of(path).voxel_size.zyx == pytest.approx((0.1, 0.1, 0.1))
    assert info_of(write(tmp_path / "other.mrc", example("int16"))).notices == ()


def test_packed_bytes_of_imod_are_refused(tmp_path):
    path = write(tmp_path / "stack.mrc", example("int8"))
    patch(path, IMOD_STAMP, "ii", 1146047817, 16)
    with pytest.raises(UnreadableFileError, match="two voxels"):
        open_volume(path)


def test_a_stack_of_volumes_must_come_out_even(tmp_path):
    path = write(tmp_path / "stack.mrc", example("int16"))
    patch(path, SPACE_GROUP, "i", 401)
    patch(path, MZ, "i", 2)
    with pytest.raises(UnreadableFileError, match="2 sections, and holds 5"):
        open_volume(path)
