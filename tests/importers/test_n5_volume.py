import bz2
import gzip
import itertools
import json
import lzma
import math
import random
import shutil
import struct
import zlib

import numcodecs
import numpy as np
import pytest

from biosegment.errors import BioSegmentError, ChoiceError, LinkError, UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from importers.convert import import_volume
from importers.detect import open_volume
from importers.n5_volume import N5Reader
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all

BLOCK_XYZ = (20, 16, 2)


def lz4_java(content):
    """Blocks of 100 bytes as lz4-java writes them, the first one stored as it is."""
    pieces = []
    for start in range(0, len(content), 100):
        block = content[start : start + 100]
        token, packed = (0x10, block) if start == 0 else (0x20, numcodecs.lz4.compress(block)[4:])
        pieces += [b"LZ4Block", struct.pack("<BiiI", token, len(packed), len(block), 0), packed]
    return b"".join([*pieces, b"LZ4Block", struct.pack("<BiiI", 0x10, 0, 0, 0)])


COMPRESSIONS = {
    "raw": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "lz4": lz4_java,
    "blosc": numcodecs.Blosc("zstd").encode,
    "zstd": numcodecs.Zstd().encode,
}


def write_dataset(folder, volume, compression="gzip", compress=None, **attributes):
    """Write a volume (z, y, x) as the specification describes it."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "dimensions": volume.shape[::-1],
        "blockSize": BLOCK_XYZ,
        "dataType": volume.dtype.name,
        "compression": {"type": compression},
    }
    (folder / "attributes.json").write_text(json.dumps(document | attributes))
    counts = [math.ceil(n / b) for n, b in zip(volume.shape[::-1], BLOCK_XYZ, strict=True)]
    for place in itertools.product(*map(range, counts)):
        parts = [slice(n * b, (n + 1) * b) for n, b in zip(place, BLOCK_XYZ, strict=True)]
        block = volume[tuple(parts[::-1])]
        values = block.astype(block.dtype.newbyteorder(">")).tobytes()
        header = struct.pack(">HH3I", 0, 3, *block.shape[::-1])
        file = folder.joinpath(*map(str, place))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(header + (compress or COMPRESSIONS[compression])(values))
    return folder


def write_group(folder, **attributes):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "attributes.json").write_text(json.dumps(attributes))
    return folder


class TestN5(ReaderContract):
    reader = N5Reader
    dtypes = ("uint8", "int8", "uint16", "int32", "uint64", "float32", "float64")

    def write(self, folder, volume, voxel_size):
        path = write_group(folder / "stack.n5", n5="4.0.0")
        resolution = {"unit": "um", "dimensions": [edge / 1000 for edge in voxel_size.zyx[::-1]]}
        write_dataset(path / "em/raw", volume, pixelResolution=resolution)
        return path

    def cut(self, path):
        for file in (path / "em/raw").rglob("[0-9]"):
            if file.is_file():
                file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_reads_every_compression(tmp_path, compression):
    path = write_dataset(tmp_path / "a.n5", example("uint16"), compression)
    np.testing.assert_array_equal(read_all(path), example("uint16"))


def test_reads_what_other_writers_make_of_a_compression(tmp_path):
    volume = example("uint16")
    zlib_blocks = write_dataset(tmp_path / "zlib.n5", volume, compress=zlib.compress)
    bare = write_dataset(
        tmp_path / "z5.n5", volume, "lz4", lambda values: numcodecs.lz4.compress(values)[4:]
    )
    oldest = write_dataset(tmp_path / "old.n5", volume, compression="xz")
    document = json.loads((oldest / "attributes.json").read_text())
    document["compressionType"] = document.pop("compression")["type"]
    (oldest / "attributes.json").write_text(json.dumps(document))
    for path in (zlib_blocks, bare, oldest):
        np.testing.assert_array_equal(read_all(path), volume)


def test_the_example_of_the_specification(tmp_path):
    attributes = {"dimensions": [1, 2, 3], "blockSize": [1, 2, 3], "dataType": "uint16"}
    path = write_group(tmp_path / "a.n5", **attributes, compression={"type": "raw"})
    (path / "0/0").mkdir(parents=True)
    block = "0000 0003 00000001 00000002 00000003 0001 0002 0003 0004 0005 0006"
    (path / "0/0/0").write_bytes(bytes.fromhex(block))
    assert read_all(path).tolist() == [[[1], [2]], [[3], [4]], [[5], [6]]]


def test_of_scale_levels_the_finest_is_one_volume(tmp_path):
    path = write_group(tmp_path / "a.n5", n5="2.5.0")
    resolution = {"unit": "nm", "dimensions": [4, 5, 40]}
    write_group(path / "c0", pixelResolution=resolution, name="dye")
    write_dataset(path / "c0/s0", example("uint8"))
    factors = {"downsamplingFactors": [2, 2, 1]}
    write_dataset(path / "c0/s1", example("uint8")[:, ::2, ::2], **factors)
    write_dataset(path / "c0/s2", example("uint8")[:, ::4, ::4])
    info = info_of(path)
    assert (info.dataset, info.shape, info.voxel_size) == ("c0/s0", SHAPE, VOXEL_SIZE)
    assert info.metadata["name"] == "dye"
    assert info_of(path, dataset="c0/s1").voxel_size == VoxelSize(40, 10, 8)
    assert info_of(path, dataset="c0/s2").voxel_size is None
    # A folder without attributes is a group as well.
    write_dataset(path / "more/c1", example("uint8"))
    with pytest.raises(ChoiceError, match=r"2 datasets \(c0/s0, more/c1\)"):
        open_volume(path)


@pytest.mark.parametrize(
    "attributes",
    [
        {"resolution": [4, 5, 40]},
        {"resolution": [0.4, 0.5, 4], "units": ["nm", "nm", "nm"], "downsamplingFactors": [10] * 3},
        {"resolution": [0.004, 0.005, 0.04], "unit": "um"},
        {
            "pixelResolution": {"dimensions": [1, 1, 1], "unit": "mm"},
            "transform": {"axes": ["z", "y", "x"], "scale": [40, 5, 4], "units": ["nm"] * 3},
        },
    ],
)
def test_voxel_sizes_of_several_programs(tmp_path, attributes):
    path = write_dataset(tmp_path / "a.n5", example("uint8"), **attributes)
    assert info_of(path).voxel_size.zyx == pytest.approx(VOXEL_SIZE.zyx)


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"pixelResolution": [4, 5, 40]},
        {"pixelResolution": {"dimensions": [4, 5, 40], "unit": "pixel"}},
        {"pixelResolution": {"dimensions": [4, 5], "unit": "nm"}},
        {"resolution": [4, 5, 0]},
        {"resolution": [4, "x", 5]},
    ],
)
def test_a_voxel_size_that_is_not_told_is_unknown(tmp_path, attributes):
    path = write_dataset(tmp_path / "a.n5", example("uint8"), **attributes)
    assert info_of(path).voxel_size is None


def test_levels_of_openorganelle_tell_their_axes_themselves(tmp_path):
    path = tmp_path / "a.n5"
    transform = {"axes": ["z", "y", "x"], "scale": [40, 5, 4], "units": ["nm"] * 3}
    write_dataset(path / "em/s0", example("uint8"), transform=transform)
    levels = [{"path": "s0", "transform": transform}]
    facts = {"multiscales": [{"name": "em", "datasets": levels}]}
    (path / "em/attributes.json").write_text(json.dumps(facts))
    (path / "attributes.json").write_text('{"n5": "2.0.0"}')
    assert info_of(path).voxel_size == VOXEL_SIZE
    np.testing.assert_array_equal(read_all(path), example("uint8"))


def test_blocks_that_were_never_written_are_0(tmp_path):
    path = write_dataset(tmp_path / "a.n5", example("uint8"))
    (path / "1/0/2").unlink()
    expected = example("uint8")
    expected[4:, :16, 20:40] = 0
    np.testing.assert_array_equal(read_all(path), expected)


def test_a_channel_axis_needs_a_name(tmp_path):
    path = write_group(tmp_path / "a.n5", dimensions=[53, 37, 5, 2], blockSize=[53, 37, 5, 1])
    document = json.loads((path / "attributes.json").read_text())
    document |= {"dataType": "uint8", "compression": {"type": "raw"}}
    (path / "attributes.json").write_text(json.dumps(document))
    with pytest.raises(UnreadableFileError, match="does not tell which of its 4 axes"):
        open_volume(path)
    (path / "attributes.json").write_text(json.dumps({**document, "axes": list("xyzc")}))
    (path / "0/0/0").mkdir(parents=True)
    header = struct.pack(">HH4I", 0, 4, 53, 37, 5, 1)
    (path / "0/0/0/1").write_bytes(header + example("uint8").tobytes())
    assert info_of(path).channels == 2
    np.testing.assert_array_equal(read_all(path, channel=1), example("uint8"))


def test_containers_are_copied(tmp_path):
    path = write_dataset(tmp_path / "a.n5", example("uint8"))
    with pytest.raises(LinkError, match="import it without --link"):
        import_volume(path, tmp_path / "data", "a", link=True)


def test_containers_in_zip_files(tmp_path):
    write_group(tmp_path / "a.n5", n5="4.0.0")
    write_dataset(tmp_path / "a.n5/raw", example("uint16"))
    archive = shutil.make_archive(tmp_path / "a.n5", "zip", tmp_path, "a.n5")
    np.testing.assert_array_equal(read_all(archive), example("uint16"))


def block(mode=0, count=3, sides=BLOCK_XYZ, values=bytes(20 * 16 * 2)):
    return struct.pack(f">HH{len(sides)}I", mode, count, *sides) + values


@pytest.mark.parametrize(
    "content",
    [
        b"",
        block()[:10],
        block()[:-1],
        block() + b"\0",
        block(mode=1),
        block(count=2),
        block(sides=(20, 16, 3), values=bytes(960)),
        block(sides=(2**31, 2**31, 2**31)),
        block(sides=(0, 16, 2), values=b""),
    ],
)
@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_damaged_block_is_refused(tmp_path, compression, content):
    path = write_dataset(tmp_path / "a.n5", example("uint8"), compression)
    header, values = content[:16], content[16:]
    (path / "1/0/1").write_bytes(header + COMPRESSIONS[compression](values))
    with open_volume(path) as reader:
        np.testing.assert_array_equal(reader.read(Roi.slice_of(SHAPE, 0))[0], example("uint8")[0])
        with pytest.raises(UnreadableFileError, match=r"a\.n5.*cannot be decoded"):
            reader.read(Roi.slice_of(SHAPE, 2))


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_noise_that_was_cut_off_is_refused(tmp_path, compression):
    noise = np.random.default_rng(0).integers(0, 256, SHAPE, "uint8")
    path = write_dataset(tmp_path / "a.n5", noise, compression)
    (path / "0/0/0").write_bytes((path / "0/0/0").read_bytes()[:-100])
    with pytest.raises(UnreadableFileError, match="cannot be decoded"):
        read_all(path)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_blocks_damaged_by_chance_are_read_or_refused(tmp_path, compression):
    path = write_dataset(tmp_path / "a.n5", example("uint16"), compression)
    content, chance = (path / "0/0/0").read_bytes(), random.Random(0)
    for _ in range(20):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 2, 4])):
            damaged[chance.randrange(min(60, len(content)))] = chance.choice([0, 1, 127, 255])
        (path / "0/0/0").write_bytes(damaged[: chance.choice([len(content), 30])])
        try:
            assert read_all(path).shape == SHAPE
        except BioSegmentError as refusal:
            assert path.name in str(refusal)  # noqa: PT017 (some are read, for few keep checksums)


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"dimensions": [53, 37]}, "make no sense"),
        ({"dimensions": [53, 37, 0]}, "make no sense"),
        ({"dimensions": 7}, "a.n5"),
        ({"blockSize": [20, -1, 2]}, "make no sense"),
        ({"dimensions": [2**40] * 3, "blockSize": [2**20] * 3}, "larger than 2 GiB"),
        ({"dataType": "object"}, "type object are no numbers"),
        ({"compression": {"type": "jpeg"}}, "compressed by jpeg, which is not known"),
        ({"compression": None}, "a.n5"),
    ],
)
def test_attributes_that_make_no_sense_are_refused(tmp_path, attributes, said):
    path = write_dataset(tmp_path / "a.n5", example("uint8"))
    document = json.loads((path / "attributes.json").read_text())
    (path / "attributes.json").write_text(json.dumps(document | attributes))
    with pytest.raises(UnreadableFileError, match=said):
        open_volume(path)


def test_a_huge_dataset_that_was_hardly_written_is_read_by_region(tmp_path):
    path = write_dataset(tmp_path / "a.n5", example("uint8"))
    document = json.loads((path / "attributes.json").read_text())
    (path / "attributes.json").write_text(json.dumps(document | {"dimensions": [2**40] * 3}))
    with open_volume(path) as reader:
        np.testing.assert_array_equal(
            reader.read(Roi(0, 0, 0, 2, 16, 60))[:, :, :40], example("uint8")[:2, :16, :40]
        )
        assert not reader.read(Roi(2**39, 2**39, 2**39, 1, 9, 9)).any()
