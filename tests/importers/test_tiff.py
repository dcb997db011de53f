import numpy as np
import pytest
import tifffile
from PIL import Image

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi
from importers.base import Choice
from importers.detect import open_volume
from importers.testing import SHAPE, ReaderContract, example, info_of, read_all
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


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "packbits", "lzma", "deflate"])
def test_reads_the_usual_compressions(tmp_path, compression):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, example("uint16"), photometric="minisblack", compression=compression)
    np.testing.assert_array_equal(read_all(path), example("uint16"))


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


def test_complex_numbers_are_refused(tmp_path):
    path = tmp_path / "complex.tif"
    tifffile.imwrite(path, np.zeros((4, 8, 9), "complex64"), photometric="minisblack")
    with pytest.raises(UnreadableFileError, match="complex64"):
        open_volume(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_what_is_stored_inverted_looks_right(tmp_path, dtype):
    dark = example(dtype) < 100
    tifffile.imwrite(tmp_path / "stack.tif", example(dtype), photometric="miniswhite")
    with open_volume(tmp_path / "stack.tif") as reader:
        seen = reader.read(Roi.whole(SHAPE))
        labels = reader.read_labels(Roi.whole(SHAPE))
        assert "inverted" in reader.info.metadata["photometric"]
    assert seen.dtype == dtype
    assert seen[dark].min() > seen[~dark].max()
    np.testing.assert_array_equal(labels, example(dtype))


def test_inverted_grey_is_what_another_reader_shows(tmp_path):
    path = tmp_path / "slice.tif"
    for plane in (example("uint8")[1], example("uint8")[1] > 100):
        tifffile.imwrite(path, plane, photometric="miniswhite")
        with Image.open(path) as image:
            np.testing.assert_array_equal(read_all(path)[0], np.asarray(image))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_reads_what_libtiff_wrote(tmp_path, compression):
    path = tmp_path / "stack.tif"
    first, *others = map(Image.fromarray, example("uint8"))
    first.save(path, save_all=True, append_images=others, compression=compression)
    with Image.open(path) as image:
        for z, plane in enumerate(read_all(path)):
            image.seek(z)
            np.testing.assert_array_equal(plane, np.asarray(image))


def test_colour_samples_are_channels_to_choose_from(tmp_path):
    colour = np.stack([example("uint8"), example("uint8")[::-1], 255 - example("uint8")], -1)
    for planes, data in (("contig", colour), ("separate", np.moveaxis(colour, -1, 1))):
        path = tmp_path / f"{planes}.tif"
        tifffile.imwrite(path, data, photometric="rgb", planarconfig=planes)
        for channel in range(3):
            with open_volume(path, Choice(channel=channel)) as reader:
                assert reader.info.channel_names == ("red", "green", "blue")
                np.testing.assert_array_equal(reader.read(Roi.whole(SHAPE)), colour[..., channel])


def test_a_volume_that_imagej_wrote(real_formats):
    path = real_formats / "rosettasciio/test_loading_image_saved_with_imageJ_stack.tif"
    info = info_of(path)
    assert info.shape == (2, 68, 68)
    assert info.voxel_size.zyx == pytest.approx((2500, 168.6747, 168.6747), rel=1e-5)
    with Image.open(path) as image:
        np.testing.assert_array_equal(read_all(path)[0], np.asarray(image))


def test_real_channels(real_formats):
    path = real_formats / "webknossos-libs/multi-channel-z-series.ome.tif"
    info = info_of(path)
    assert (info.shape, info.channels, info.dtype) == ((5, 167, 439), 3, np.int8)
    with open_volume(path, Choice(channel=2)) as reader, Image.open(path) as image:
        # Bio-Formats wrote the slices of a channel one after the other.
        image.seek(2 * 5 + 3)
        plane = reader.read(Roi.slice_of(info.shape, 3))[0]
        np.testing.assert_array_equal(plane, np.asarray(image).astype(np.int8))


def test_a_real_slice_of_a_helios(helios):
    with open_volume(helios) as reader, Image.open(helios) as image:
        assert reader.info.shape == (1, 471, 512)
        assert reader.info.voxel_size is None
        assert reader.info.metadata["pixel size"] == "3372.4 x 3372.4 nm (y, x)"
        assert reader.info.metadata["EBeam.HV"] == "5000"
        assert any("29 rows" in notice for notice in reader.info.notices)
        np.testing.assert_array_equal(reader.read(Roi.whole((1, 471, 512)))[0], np.asarray(image))
