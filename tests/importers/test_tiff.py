import struct

import numpy as np
import pytest
import tifffile

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from importers.detect import open_volume
from importers.testing import SHAPE, ReaderContract, example
from importers.tiff import TiffReader


class TestOmeTiff(ReaderContract):
    reader = TiffReader
    dtypes = ("uint8", "uint16", "int16", "float32", "uint32")

    def write(self, folder, volume, voxel_size):
        path = folder / "stack.ome.tif"
        metadata = {"axes": "ZYX"}
        for axis in "zyx":
            metadata[f"PhysicalSize{axis.upper()}"] = getattr(voxel_size, axis)
            metadata[f"PhysicalSize{axis.upper()}Unit"] = "nm"
        tifffile.imwrite(path, volume, ome=True, metadata=metadata)
        return path


class TestImageJTiff(ReaderContract):
    reader = TiffReader
    dtypes = ("uint8", "uint16", "float32")

    def write(self, folder, volume, voxel_size):
        path = folder / "stack.tif"
        write_imagej(path, volume, voxel_size, "um", 1e-3)
        return path


class TestPlainTiff(ReaderContract):
    reader = TiffReader
    dtypes = ("uint8", "int8", "uint16", "int16", "int32", "float64")
    voxel_size = None

    def write(self, folder, volume, voxel_size):
        path = folder / "stack.tiff"
        tifffile.imwrite(path, volume, photometric="minisblack", metadata=None)
        return path


class TestBigCompressedTiff(ReaderContract):
    reader = TiffReader
    voxel_size = None

    def write(self, folder, volume, voxel_size):
        path = folder / "stack.btf"
        tifffile.imwrite(
            path,
            volume,
            bigtiff=True,
            byteorder=">",
            photometric="minisblack",
            compression="zlib",
            predictor=True,
            tile=(16, 32),
        )
        return path


def write_imagej(path, volume, voxel_size, unit, per_nm, **options):
    z, y, x = (edge * per_nm for edge in voxel_size.zyx)
    metadata = {"axes": "ZYX", "spacing": z, "unit": unit}
    tifffile.imwrite(
        path, volume, imagej=True, resolution=(1 / x, 1 / y), metadata=metadata, **options
    )


def info_of(path):
    with open_volume(path) as reader:
        return reader.info


def read_all(path):
    with open_volume(path) as reader:
        return reader.read(Roi.whole(reader.info.shape))


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "packbits", "lzma", "deflate"])
def test_reads_the_usual_compressions(tmp_path, compression):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, example("uint16"), photometric="minisblack", compression=compression)
    np.testing.assert_array_equal(read_all(path), example("uint16"))


@pytest.mark.parametrize(
    ("unit", "per_nm"),
    [
        ("um", 1e-3),
        ("\\u00B5m", 1e-3),
        ("micron", 1e-3),
        ("microns", 1e-3),
        ("nm", 1),
        ("mm", 1e-6),
        ("nanometer", 1),
    ],
)
def test_understands_imagej_units(tmp_path, unit, per_nm):
    path = tmp_path / "stack.tif"
    write_imagej(path, example("uint8"), VoxelSize(40, 5, 4), unit, per_nm)
    assert info_of(path).voxel_size.zyx == pytest.approx((40, 5, 4))


@pytest.mark.parametrize("unit", ["pixel", "inch-ish", ""])
def test_a_unit_that_is_no_length_leaves_the_voxel_size_unknown(tmp_path, unit):
    path = tmp_path / "stack.tif"
    write_imagej(path, example("uint8"), VoxelSize(40, 5, 4), unit, 1)
    assert info_of(path).voxel_size is None


def test_ome_sizes_without_a_unit_are_micrometres(tmp_path):
    path = tmp_path / "stack.ome.tif"
    sizes = {"PhysicalSizeX": 0.004, "PhysicalSizeY": 0.005, "PhysicalSizeZ": 0.04}
    tifffile.imwrite(path, example("uint8"), metadata={"axes": "ZYX", **sizes})
    assert info_of(path).voxel_size.zyx == pytest.approx((40, 5, 4))


@pytest.mark.parametrize("size", [0.0, -1.0])
def test_an_impossible_voxel_size_is_unknown(tmp_path, size):
    path = tmp_path / "stack.ome.tif"
    sizes = {"PhysicalSizeX": size, "PhysicalSizeY": 1.0, "PhysicalSizeZ": 1.0}
    tifffile.imwrite(path, example("uint8"), metadata={"axes": "ZYX", **sizes})
    assert info_of(path).voxel_size is None


def test_dots_per_inch_are_no_voxel_size(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, example("uint8"), resolution=(72, 72), resolutionunit="INCH")
    assert info_of(path).voxel_size is None


def test_a_single_image_is_a_volume_of_one_slice(tmp_path):
    path = tmp_path / "slice.tif"
    tifffile.imwrite(path, example("uint8")[0])
    assert info_of(path).shape == (1, *SHAPE[1:])
    np.testing.assert_array_equal(read_all(path)[0], example("uint8")[0])


def test_pages_of_unknown_meaning_are_slices(tmp_path):
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in example("uint8"):
            writer.write(page, contiguous=False, photometric="minisblack", metadata=None)
    np.testing.assert_array_equal(read_all(path), example("uint8"))


def test_a_bilevel_mask_reads_as_0_and_1(tmp_path):
    path = tmp_path / "mask.tif"
    mask = example("uint8") > 100
    tifffile.imwrite(path, mask, photometric="minisblack")
    assert info_of(path).dtype == np.uint8
    np.testing.assert_array_equal(read_all(path), mask)


@pytest.mark.parametrize(
    ("axes", "shape", "said"),
    [
        ("ZCYX", (4, 2, 8, 9), "2 channels"),
        ("TYX", (3, 8, 9), "3 time points"),
        ("TZYX", (3, 4, 8, 9), "3 time points"),
    ],
)
def test_more_than_a_grey_stack_is_refused_in_words(tmp_path, axes, shape, said):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros(shape, "uint8"), imagej=True, metadata={"axes": axes})
    with pytest.raises(UnreadableFileError, match=said):
        open_volume(path)


def test_colour_is_refused_in_words(tmp_path):
    path = tmp_path / "colour.tif"
    tifffile.imwrite(path, np.zeros((4, 8, 9, 3), "uint8"), photometric="rgb")
    with pytest.raises(UnreadableFileError, match="3 colour samples"):
        open_volume(path)


def test_complex_numbers_are_refused(tmp_path):
    path = tmp_path / "complex.tif"
    tifffile.imwrite(path, np.zeros((4, 8, 9), "complex64"), photometric="minisblack")
    with pytest.raises(UnreadableFileError, match="complex64"):
        open_volume(path)


def test_pages_of_different_sizes_are_refused(tmp_path):
    path = tmp_path / "mixed.tif"
    with tifffile.TiffWriter(path) as writer:
        for height in (30, 30, 30, 31, 30, 30, 30):
            writer.write(np.zeros((height, 9), "uint8"), contiguous=False, metadata=None)
    with pytest.raises(UnreadableFileError, match=r"different kinds|slice 3 is 31 x 9"):
        open_volume(path)


LAYOUTS = {
    "contiguous": {"photometric": "minisblack"},
    "pages": {"photometric": "minisblack", "metadata": None},
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "imagej-compressed": {"imagej": True, "metadata": {"axes": "ZYX"}, "compression": "zlib"},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
    "lzw": {"photometric": "minisblack", "metadata": None, "compression": "lzw"},
    "big-tiled": {"bigtiff": True, "tile": (16, 16), "metadata": None},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wherever_a_file_is_cut_off_no_slice_is_lost_in_silence(tmp_path, layout):
    whole, path = tmp_path / "whole.tif", tmp_path / "cut.tif"
    tifffile.imwrite(whole, example("uint8"), **LAYOUTS[layout])
    content = whole.read_bytes()
    for end in np.linspace(4, len(content) - 2, 60).astype(int):
        path.write_bytes(content[:end])
        # The very last bytes can be of no consequence.
        try:
            volume = read_all(path)
        except UnreadableFileError:
            continue
        np.testing.assert_array_equal(volume, example("uint8"))


@pytest.mark.parametrize("layout", ["contiguous", "pages", "imagej", "ome", "lzw"])
def test_a_cut_file_is_refused_before_any_voxel_is_read(tmp_path, layout):
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, example("uint8"), **LAYOUTS[layout])
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(UnreadableFileError):
        TiffReader(path)


def test_fewer_pages_than_the_file_itself_counts(tmp_path):
    path = tmp_path / "stack.tif"
    write_imagej(path, example("uint8"), VoxelSize(1, 1, 1), "nm", 1, compression="zlib")
    content = path.read_bytes().replace(b"slices=5", b"slices=9").replace(b"images=5", b"images=9")
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match="9 slices"):
        open_volume(path)


def test_an_ome_tiff_with_missing_slices(tmp_path):
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, example("uint8"), metadata={"axes": "ZYX"}, compression="zlib")
    path.write_bytes(path.read_bytes().replace(b'SizeZ="5"', b'SizeZ="9"'))
    with pytest.raises(UnreadableFileError):
        open_volume(path)


def test_a_chain_of_pages_that_leads_nowhere(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, example("uint8"), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[2].offset
        tags = len(tiff.pages[2].tags)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, offset + 2 + 12 * tags, 0x7FFFFFFF)
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match="only 3 of its pages"):
        open_volume(path)


def test_a_damaged_page_is_met_when_it_is_decoded(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, example("uint8"), photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        start = tiff.pages[3].dataoffsets[0]
    content = bytearray(path.read_bytes())
    content[start + 5 : start + 60] = bytes(55)
    path.write_bytes(content)
    with open_volume(path) as reader:
        np.testing.assert_array_equal(reader.read(Roi.slice_of(SHAPE, 2))[0], example("uint8")[2])
        with pytest.raises(UnreadableFileError, match="slice 3 is damaged"):
            reader.read(Roi.slice_of(SHAPE, 3))


def test_a_header_that_claims_terabytes_is_refused_at_once(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((8, 8), "uint8"), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
            tiff.pages[0].tags[name].overwrite(2_000_000)
    with pytest.raises(UnreadableFileError):
        open_volume(path)


def test_a_volume_that_imagej_wrote(real_formats):
    info = info_of(real_formats / "rosettasciio/test_loading_image_saved_with_imageJ_stack.tif")
    assert info.shape == (2, 68, 68)
    assert info.voxel_size.zyx == pytest.approx((2500, 168.6747, 168.6747), rel=1e-5)


def test_real_channels_are_refused(real_formats):
    with pytest.raises(UnreadableFileError, match="3 channels"):
        open_volume(real_formats / "webknossos-libs/multi-channel-z-series.ome.tif")
