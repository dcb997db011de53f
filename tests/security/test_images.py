"""Images and volumes that are made to take all memory, or to break what reads them."""

import io
import json
import resource
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image, PngImagePlugin

from biosegment.errors import BioSegmentError, TaskError
from biosegment.geometry import Roi
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import image_addresses
from biosegment.settings import Settings
from importers.detect import open_volume
from ml_backend.pixels import MAX_IMAGE_PX, TaskImages

SIDE = 32
GREY = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE), "uint8")
LIMIT_BYTES = 2**27  # far less than what these files claim to hold


def written(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def png(width, height, rows, *before):
    """A PNG that claims a size, whatever its rows hold."""

    def chunk(kind, content):
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), *before, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*each) for each in chunks)


def tiff(**tags):
    """A TIFF of the tile's size whose tags are replaced: name -> (type, count, value)."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GREY, photometric="minisblack", metadata=None)
    content = bytearray(buffer.getvalue())
    with tifffile.TiffFile(io.BytesIO(bytes(content))) as file:
        for name, fields in tags.items():
            at = file.pages[0].tags[name].offset
            content[at + 2 : at + 12] = struct.pack("<HII", *fields)
    return bytes(content)


def with_text(text):
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", text, zip=True)
    return written(Image.fromarray(GREY), "PNG", pnginfo=info)


WHOLE = written(Image.fromarray(GREY), "PNG")
BOMB = zlib.compress(bytes(2**28))
HOSTILE = {
    "absurd width": png(2**31 - 1, SIDE, b""),
    "absurd size": png(60_000, 60_000, b""),
    "no size": png(0, 0, b""),
    "no rows": png(SIDE, SIDE, b""),
    "truncated": WHOLE[: len(WHOLE) // 2],
    "no end of rows": WHOLE[:-40],
    "text bomb": png(SIDE, SIDE, bytes(33 * 32), (b"zTXt", b"comment\0\0" + BOMB)),
    "international text bomb": png(SIDE, SIDE, b"", (b"iTXt", b"c\0\1\0\0\0" + BOMB)),
    "profile bomb": png(SIDE, SIDE, b"", (b"iCCP", b"icc\0\0" + BOMB)),
    "tiff strip far away": tiff(StripOffsets=(4, 1, 2**32 - 1)),
    "tiff strip of gigabytes": tiff(StripByteCounts=(4, 1, 2**32 - 1)),
    "tiff of many strips": tiff(StripOffsets=(4, 2**30, 8)),
    "tiff of many samples": tiff(SamplesPerPixel=(3, 1, 2**15)),
    "tiff of many bits": tiff(BitsPerSample=(3, 1, 2**15)),
    "tiff of unknown compression": tiff(Compression=(3, 1, 9999)),
    "tiff of absurd width": tiff(ImageWidth=(4, 1, 2**31 - 1)),
}


@pytest.fixture
def remote(site, tmp_path):
    settings = Settings(
        data_root=tmp_path / "empty", label_studio_url=site.url, label_studio_api_key="known-to-us"
    )
    with LabelStudioClient(settings) as client:
        yield TaskImages(settings, client)


def peak(call):
    """Return the most memory that Python and numpy took during a call, and what it raised."""
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        call()
    except BioSegmentError as exc:
        raised = exc
    else:
        raised = None
    finally:
        traced = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    return max(traced, grown), raised


# Pillow and tifffile warn of what we refuse.
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_image_of_a_task_is_one_clear_error(remote, site, make_task, content):
    task = make_task(7, height=SIDE, width=SIDE)
    for address in image_addresses(task):
        site.pages[address] = (200, {}, content)
    read = []
    taken, raised = peak(lambda: read.append(remote.target(task)))
    assert taken < LIMIT_BYTES
    if read:
        # Of a lie that does not matter, all the same.
        np.testing.assert_allclose(read[0], GREY / 255, atol=1e-6)
    else:
        assert isinstance(raised, TaskError)
        assert str(raised).startswith("Task 7 cannot be used: its image is missing")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_image_is_not_imported(tmp_path, content):
    """Or else it is read like what its header says, which is no more than its file can hold."""
    path = tmp_path / ("a.png" if content.startswith(b"\x89PNG") else "a.tif")
    path.write_bytes(content)

    def read():
        with open_volume(path) as volume:
            assert np.prod(volume.info.shape) <= 2**20
            volume.read(Roi.whole(volume.info.shape))

    taken, _ = peak(read)
    assert taken < 2**29


@pytest.mark.parametrize("data", [{"height": 2**13, "width": 2**13}, {"height": 10**9}])
def test_a_tile_larger_than_any_that_is_imported_is_not_read(settings, volume, make_task, data):
    task = make_task(1)
    task["data"] |= data
    assert task["data"]["height"] * task["data"]["width"] > MAX_IMAGE_PX
    with LabelStudioClient(settings) as client, pytest.raises(TaskError, match="px are too many"):
        TaskImages(settings, client).target(task)


def test_a_task_of_very_many_slices_is_not_read(http, serve, volume, make_task):
    serve(1)
    task = make_task(1)
    task["data"]["slices"] = [""] * 10**6
    answer = http.post("/predict", json={"project": 1, "tasks": [task], "label_config": CONFIG})
    assert answer.status_code == 422
    assert "more than 1000" in answer.json["error"]


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**40, 2**20, 2**20]},
        {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2**20] * 3}}},
        {"shape": [-1, 4, 4]},
    ],
    ids=str,
)
def test_a_zarr_that_claims_to_be_huge_takes_no_memory(tmp_path, change):
    path = tmp_path / "a.zarr"
    zarr.create_array(path, shape=(2, 4, 4), chunks=(1, 4, 4), dtype="u1")[:] = 1
    description = path / "zarr.json"
    description.write_text(json.dumps(json.loads(description.read_text()) | change))

    def read():
        with open_volume(path) as volume:
            volume.read(Roi(0, 0, 0, 1, 1, 1))

    taken, _ = peak(read)
    assert taken < LIMIT_BYTES


@pytest.mark.parametrize("inside", ["../secret", "/etc", "../../secret", "a/../../secret"])
def test_a_path_in_an_ome_zarr_does_not_lead_out_of_it(tmp_path, inside):
    zarr.create_array(tmp_path / "secret", shape=(2, 4, 4), dtype="u1")[:] = 42
    image = zarr.open_group(tmp_path / "a.zarr", mode="w", zarr_format=3)
    image.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {
                "axes": [{"name": axis, "type": "space"} for axis in "zyx"],
                "datasets": [
                    {
                        "path": inside,
                        "coordinateTransformations": [{"type": "scale", "scale": [1, 1, 1]}],
                    }
                ],
            }
        ],
    }
    with pytest.raises(BioSegmentError):
        open_volume(tmp_path / "a.zarr")


CONFIG = (
    "<View><Image name='image' value='$image'/><BrushLabels name='label' toName='image'>"
    "<Label value='mitochondria'/></BrushLabels></View>"
)
