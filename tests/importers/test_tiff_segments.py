import numpy as np
import pytest
import tifffile

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi
from importers.detect import open_volume
from importers.testing import SHAPE, example

LAYOUTS = {
    "rows": {},
    "strips": {"rowsperstrip": 5},
    "tiles": {"tile": (16, 32)},
    "lzw": {"compression": "lzw", "rowsperstrip": 7},
    "deflate tiles": {"compression": "zlib", "predictor": True, "tile": (32, 16)},
    "jpeg tiles": {"compression": "jpeg", "tile": (16, 16)},
    "jpeg strips": {"compression": "jpeg", "rowsperstrip": 8},
    "big end first": {"compression": "zstd", "byteorder": ">", "tile": (16, 16)},
}
ROIS = [
    Roi(0, 0, 0, 1, 1, 1),
    Roi(1, 14, 15, 2, 3, 3),
    Roi(2, 36, 52, 1, 1, 1),
    Roi(0, 5, 30, 5, 32, 4),
    Roi(4, 16, 16, 1, 16, 32),
]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "float32"])
def test_a_region_is_what_slicing_the_whole_gives(tmp_path, layout, dtype):
    if "jpeg" in layout and dtype != "uint8":
        layout = "deflate tiles"
    path = tmp_path / "stack.tif"
    volume = example("uint8") > 100 if dtype == "bool" else example(dtype)
    options = LAYOUTS[layout] | ({"predictor": None} if dtype == "bool" else {})
    tifffile.imwrite(path, volume, photometric="minisblack", metadata=None, **options)
    whole = tifffile.imread(path)
    with open_volume(path) as reader:
        for roi in [Roi.whole(SHAPE), *ROIS]:
            np.testing.assert_array_equal(reader.read(roi), whole[roi.slices])


def test_only_the_tiles_that_a_region_touches_are_decoded(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, example("uint8"), tile=(16, 16), compression="zlib", metadata=None)
    with tifffile.TiffFile(path) as tiff:
        # 4 tiles across, so this is the second of the second row.
        start = tiff.pages[2].dataoffsets[5]
    content = bytearray(path.read_bytes())
    content[start : start + 20] = bytes(20)
    path.write_bytes(content)
    with open_volume(path) as reader:
        assert reader.info.chunks == (1, 16, 16)
        beside = Roi(2, 0, 0, 1, 16, 53)
        np.testing.assert_array_equal(reader.read(beside), example("uint8")[beside.slices])
        with pytest.raises(UnreadableFileError, match="slice 2 is damaged"):
            reader.read(Roi(2, 20, 20, 1, 1, 1))


@pytest.mark.parametrize(
    ("options", "chunks"),
    [
        ({}, (1, 1, 53)),
        ({"compression": "zlib"}, None),
        ({"compression": "zlib", "rowsperstrip": 8}, (1, 8, 53)),
        ({"tile": (16, 32)}, (1, 16, 32)),
        ({"tile": (64, 64), "compression": "zlib"}, None),
    ],
)
def test_chunks_are_what_is_decoded_at_once(tmp_path, options, chunks):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, example("uint8"), photometric="minisblack", metadata=None, **options)
    with open_volume(path) as reader:
        assert reader.info.chunks == chunks
