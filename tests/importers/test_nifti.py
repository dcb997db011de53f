import gzip
import struct

import nibabel
import numpy as np
import pytest

from biosegment.errors import UnreadableFileError
from importers.detect import open_volume
from importers.nifti import NiftiReader
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all

# Where the fields of a NIfTI-1 header stand, counted from its start.
DIM, DATATYPE, PIXDIM, OFFSET, UNITS, MAGIC = 40, 70, 80, 108, 123, 344


class TestNifti(ReaderContract):
    reader = NiftiReader
    dtypes = ("uint8", "int8", "uint16", "int16", "int32", "uint32", "float32", "float64", "int64")

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.nii", volume)


class TestGzippedNifti2(ReaderContract):
    reader = NiftiReader
    dtypes = ("uint16", "uint64")

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.nii.gz", volume, kind=nibabel.Nifti2Image)


def write(path, volume, kind=nibabel.Nifti1Image, unit="micron", nm=1000, order="<"):
    """Write a volume (..., z, y, x), turned as scanners turn it."""
    affine = np.diag([-VOXEL_SIZE.x / nm, VOXEL_SIZE.y / nm, -VOXEL_SIZE.z / nm, 1])
    header = kind.header_class(endianness=order)
    header.set_data_dtype(volume.dtype)
    header["descrip"] = b"cut by hand"
    header.set_xyzt_units(unit)
    nibabel.save(kind(volume.T, affine, header), path)
    return path


def patch(path, offset, kind, *values):
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + kind, content, offset, *values)
    path.write_bytes(content)
    return path


def test_a_real_image_reads_as_its_own_library_reads_it(real_formats):
    path = real_formats / "pynrrd" / "BallBinary30x30x30.nii.gz"
    truth = np.asanyarray(nibabel.load(path).dataobj).T
    info = info_of(path)
    assert (info.shape, info.dtype) == ((30, 30, 30), np.int16)
    assert info.voxel_size.zyx == (1e6, 1e6, 1e6)
    np.testing.assert_array_equal(read_all(path), truth)


@pytest.mark.parametrize(("unit", "nm"), [("meter", 1e9), ("mm", 1e6), ("micron", 1e3)])
def test_understands_the_units_of_length(tmp_path, unit, nm):
    path = write(tmp_path / "stack.nii", example("uint8"), unit=unit, nm=nm)
    assert info_of(path).voxel_size.zyx == pytest.approx(VOXEL_SIZE.zyx)
    assert info_of(path).metadata == {"description": "cut by hand"}


def test_without_a_unit_the_voxel_size_is_unknown(tmp_path):
    assert info_of(write(tmp_path / "stack.nii", example("uint8"), unit=0)).voxel_size is None


def test_a_unit_of_time_does_not_hide_that_of_length(tmp_path):
    path = patch(write(tmp_path / "stack.nii", example("uint8")), UNITS, "B", 3 | 16)
    assert info_of(path).voxel_size.zyx == pytest.approx(VOXEL_SIZE.zyx)


@pytest.mark.parametrize("edge", [0.0, float("inf"), float("nan")])
def test_an_impossible_voxel_size_is_unknown(tmp_path, edge):
    path = patch(write(tmp_path / "stack.nii", example("uint8")), PIXDIM + 4, "f", edge)
    assert info_of(path).voxel_size is None


def test_big_endian_files_are_read(tmp_path):
    path = write(tmp_path / "stack.nii", example("int16"), order=">")
    assert path.read_bytes()[:4] == struct.pack(">i", 348)
    np.testing.assert_array_equal(read_all(path), example("int16"))


def test_stored_numbers_are_scaled_as_the_header_says(tmp_path):
    path = tmp_path / "stack.nii"
    image = nibabel.Nifti1Image(example("float64").T / 7, np.eye(4))
    image.set_data_dtype("int16")
    nibabel.save(image, path)
    truth = nibabel.load(path)
    assert truth.dataobj.slope != 1
    assert read_all(path).dtype == info_of(path).dtype == np.float32
    np.testing.assert_allclose(read_all(path), truth.get_fdata().T, rtol=1e-6, atol=1e-4)


def test_the_fourth_axis_is_time_and_the_fifth_channels(tmp_path):
    volumes = np.stack([example("int16") + 10 * step for step in range(6)])
    path = write(tmp_path / "stack.nii", volumes.reshape(2, 3, *SHAPE))
    info = info_of(path)
    assert (info.shape, info.channels, info.times) == (SHAPE, 2, 3)
    np.testing.assert_array_equal(read_all(path, channel=1, time=2), volumes[5])


def test_colours_are_channels(tmp_path):
    samples = np.stack([example("uint8") + shift for shift in range(3)], axis=-1)
    colours = samples.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    path = write(tmp_path / "stack.nii", colours)
    assert (info_of(path).channels, info_of(path).dtype) == (3, np.uint8)
    np.testing.assert_array_equal(read_all(path, channel=1), samples[..., 1])


def test_a_single_image_is_a_volume_of_one_slice(tmp_path):
    path = write(tmp_path / "slice.nii", example("uint8")[0])
    assert (info_of(path).shape, info_of(path).voxel_size) == ((1, 37, 53), None)
    np.testing.assert_array_equal(read_all(path)[0], example("uint8")[0])


@pytest.mark.parametrize(
    ("offset", "kind", "values", "reason"),
    [
        (DIM, "4h", (3, 1 << 14, 1 << 13, 1 << 13), "cut off"),
        (DIM, "4h", (3, 53, -37, 5), "it says it is 5 x -37 x 53"),
        (DIM, "8h", (7, 53, 37, 5, 1, 1, 2, 2), "it has 7 axes"),
        (DIM, "h", (0,), "it has 0 axes"),
        (DATATYPE, "h", (32,), "complex64"),
        (DATATYPE, "h", (1536,), "not real numbers"),
        (DATATYPE, "h", (7,), "damaged"),
        (OFFSET, "f", (1e9,), "cut off"),
        (OFFSET, "f", (float("nan"),), "damaged"),
        (OFFSET, "f", (-8.0,), "from byte -8"),
    ],
)
def test_a_header_that_cannot_be_true_is_refused(tmp_path, offset, kind, values, reason):
    path = patch(write(tmp_path / "stack.nii", example("uint8")), offset, kind, *values)
    with pytest.raises(UnreadableFileError, match=reason):
        open_volume(path)
    packed = path.with_name("stack.nii.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(UnreadableFileError):
        open_volume(packed)


def test_a_header_whose_image_lies_elsewhere_is_refused(tmp_path):
    path = patch(write(tmp_path / "stack.nii", example("uint8")), MAGIC, "4s", b"ni1\0")
    assert NiftiReader.refusal(path)
