import struct

import numpy as np
import pytest
import tifffile

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi
from importers.detect import open_volume
from importers.testing import SHAPE, example, read_all
from importers.tiff import TiffReader


def test_pages_of_different_sizes_are_refused(tmp_path):
    path = tmp_path / "mixed.tif"
    with tifffile.TiffWriter(path) as writer:
        for height in (30, 30, 30, 31, 30, 30, 30):
            writer.write(np.zeros((height, 9), "uint8"), contiguous=False, metadata=None)
    with pytest.raises(UnreadableFileError, match="slice 3 is 31 x 9 uint8, the first one 30 x 9"):
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
    tifffile.imwrite(path, example("uint8"), **LAYOUTS["imagej-compressed"])
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


@pytest.mark.parametrize("pages", [3, 300])
def test_a_chain_of_pages_that_runs_in_a_circle(tmp_path, pages):
    path = tmp_path / "stack.tif"
    stack = np.zeros((pages, 8, 9), "uint8")
    tifffile.imwrite(path, stack, photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        earlier, end = tiff.pages[pages - 2].offset, tiff.pages.next_page_offset
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, end, earlier)
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match="circle"):
        open_volume(path)


@pytest.mark.parametrize(
    ("written", "claimed"),
    [
        (b'SizeZ="5"', b'SizeZ="999999999"'),
        (b'SizeX="53"', b'SizeX="999999999999"'),
        (b'PlaneCount="5"', b'PlaneCount="2000000000"'),
    ],
)
def test_an_ome_description_that_counts_billions(tmp_path, written, claimed):
    path = tmp_path / "stack.ome.tif"
    spare = "x" * 20
    tifffile.imwrite(path, example("uint8"), metadata={"axes": "ZYX", "Name": spare})
    content = path.read_bytes()
    assert written in content
    # As long as before, so that nothing else moves.
    shorter = spare[: len(spare) + len(written) - len(claimed)]
    content = content.replace(written, claimed).replace(spare.encode(), shorter.encode())
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"counts \d{9,} images"):
        open_volume(path)


def test_a_stack_whose_ome_description_is_damaged_is_not_taken_for_plain_slices(tmp_path):
    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, example("uint8"), metadata={"axes": "ZYX"})
    path.write_bytes(path.read_bytes().replace(b"<Image", b"<Imago"))
    with pytest.raises(UnreadableFileError):
        open_volume(path)


def test_a_page_with_too_few_tiles(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, example("uint8"), tile=(16, 16), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        tiff.pages[1].tags["ImageWidth"].overwrite(53)
        for name in ("TileOffsets", "TileByteCounts"):
            tag = tiff.pages[0].tags[name]
            tag.overwrite(tag.value[:-1])
    with pytest.raises(UnreadableFileError, match="slice 0 holds no data, or not all of it"):
        open_volume(path)


def test_a_small_file_that_claims_2_to_the_40_pixels_takes_no_memory(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.zeros((8, 8), "uint8"), tile=(16, 16), bigtiff=True, metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tiff:
        for name in ("ImageWidth", "ImageLength"):
            tiff.pages[0].tags[name].overwrite(2**20)
    with pytest.raises(UnreadableFileError):
        open_volume(path)


def test_thumbnails_are_no_slices(tmp_path):
    path = tmp_path / "stack.tif"
    with tifffile.TiffWriter(path) as writer:
        for page in example("uint8"):
            writer.write(page, contiguous=False, metadata=None)
            writer.write(page[::4, ::4], contiguous=False, metadata=None, subfiletype=1)
    np.testing.assert_array_equal(read_all(path), example("uint8"))


def test_pages_of_one_size_need_not_be_stored_alike(tmp_path):
    path = tmp_path / "stack.tif"
    layouts = [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"rowsperstrip": 3}, {}]
    with tifffile.TiffWriter(path) as writer:
        for page, layout in zip(example("uint8"), layouts, strict=True):
            writer.write(page, contiguous=False, metadata=None, **layout)
    np.testing.assert_array_equal(read_all(path), example("uint8"))
