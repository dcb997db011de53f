import gzip
import itertools
import json
import math
import shutil

import numcodecs
import numpy as np
import pytest
import zarr

from biosegment.errors import (
    ChoiceError,
    UnreadableFileError,
    UnsupportedFormatError,
)
from biosegment.geometry import Roi
from biosegment.store import VolumeStore
from importers.base import Choice
from importers.detect import open_volume
from importers.testing import SHAPE, ReaderContract, example, info_of, read_all
from importers.zarr_volume import ZarrReader

CHUNKS = (2, 16, 20)


def chunk_files(folder):
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith((".z", "zarr.json"))
    ]


def write_by_hand(folder, volume, **metadata):
    """Write Zarr 2 as its specification describes it, without the library."""
    folder.mkdir(parents=True)
    document = {
        "zarr_format": 2,
        "shape": volume.shape,
        "chunks": CHUNKS,
        "dtype": volume.dtype.newbyteorder(">").str,
        "compressor": {"id": "gzip", "level": 5},
        "fill_value": 0,
        "order": "F",
        "filters": None,
    }
    (folder / ".zarray").write_text(json.dumps(document | metadata))
    counts = [math.ceil(size / chunk) for size, chunk in zip(volume.shape, CHUNKS, strict=True)]
    for place in itertools.product(*map(range, counts)):
        parts = [slice(n * c, (n + 1) * c) for n, c in zip(place, CHUNKS, strict=True)]
        chunk = np.zeros(CHUNKS, document["dtype"])
        values = volume[tuple(parts)]
        chunk[tuple(slice(size) for size in values.shape)] = values
        content = gzip.compress(chunk.tobytes(order="F"))
        (folder / ".".join(map(str, place))).write_bytes(content)
    return folder


class ZarrContract(ReaderContract):
    reader = ZarrReader

    def cut(self, path):
        for file in chunk_files(path):
            content = file.read_bytes()
            file.write_bytes(content[: len(content) // 2])


class TestPlainZarr2(ZarrContract):
    dtypes = ("uint8", "int16", "float32")
    voxel_size = None

    def write(self, folder, volume, voxel_size):
        return write_by_hand(folder / "stack.zarr", volume)


class TestPlainZarr3(ZarrContract):
    dtypes = ("uint16", "uint64", "float64")

    def write(self, folder, volume, voxel_size):
        path = folder / "stack.zarr"
        turned = np.einsum("zyx->xzy", volume)
        names = {"dimension_names": ("x", "z", "y")}
        array = zarr.create_array(
            path, data=turned, chunks=(20, 2, 16), shards=(40, 4, 32), **names
        )
        array.attrs.update(resolution=[voxel_size.x, voxel_size.z, voxel_size.y], unit="nm")
        return path


class TestOwnStore(ZarrContract):
    def write(self, folder, volume, voxel_size):
        store = VolumeStore.create(folder / "own.ome.zarr", volume.shape, volume.dtype, voxel_size)
        store.write(Roi.whole(volume.shape), volume)
        store.finish((0, 255), {"name": "stack.tif"})
        return store.path


class TestZip(ReaderContract):
    reader = ZarrReader
    dtypes = ("uint8",)
    voxel_size = None

    def write(self, folder, volume, voxel_size):
        write_by_hand(folder / "stack.zarr", volume)
        archive = shutil.make_archive(folder / "stack.zarr", "zip", folder, "stack.zarr")
        return folder / archive


def fingerprint(path, **choice):
    with open_volume(path, Choice(**choice)) as reader:
        return reader.fingerprint()


@pytest.fixture
def stack(tmp_path):
    return write_by_hand(tmp_path / "stack.zarr", example("uint16"))


def test_a_zip_file_of_what_is_in_the_folder(stack):
    archive = shutil.make_archive(stack.parent / "flat", "zip", stack)
    np.testing.assert_array_equal(read_all(archive), example("uint16"))


def test_zip_files_of_other_things_are_refused(tmp_path):
    (tmp_path / "slices").mkdir()
    (tmp_path / "slices/1.txt").write_text("no voxels")
    archive = shutil.make_archive(tmp_path / "slices", "zip", tmp_path / "slices")
    with pytest.raises(UnsupportedFormatError, match=r"zarr: it has no zarr\.json"):
        open_volume(archive)


def test_groups_are_searched(tmp_path):
    write_by_hand(tmp_path / "volumes/raw", example("uint8"))
    write_by_hand(tmp_path / "volumes/labels/ids", example("uint16"))
    for folder in ("", "volumes", "volumes/labels"):
        (tmp_path / folder / ".zgroup").write_text('{"zarr_format": 2}')
    (tmp_path / "volumes/labels/readme.txt").write_text("no array")
    with pytest.raises(ChoiceError, match=r"2 datasets \(volumes/labels/ids, volumes/raw\)"):
        open_volume(tmp_path)
    with pytest.raises(ChoiceError, match="no dataset volumes/row"):
        open_volume(tmp_path, Choice(dataset="volumes/row"))
    assert info_of(tmp_path, dataset="volumes/labels").dataset == "volumes/labels/ids"
    np.testing.assert_array_equal(read_all(tmp_path, dataset="volumes/raw"), example("uint8"))
    np.testing.assert_array_equal(read_all(tmp_path / "volumes/raw"), example("uint8"))


def test_a_group_without_volumes(tmp_path):
    (tmp_path / ".zgroup").write_text('{"zarr_format": 2}')
    with pytest.raises(UnreadableFileError, match="no array of 3 to 5 axes"):
        open_volume(tmp_path)


def test_an_array_has_no_datasets(stack):
    with pytest.raises(UnreadableFileError, match="leave --dataset out"):
        open_volume(stack, Choice(dataset="0"))


def test_xarrays_names_of_axes_are_used(tmp_path):
    path = tmp_path / "stack.zarr"
    turned = np.einsum("zyx->xzy", example("uint8"))
    array = zarr.create_array(path, data=np.stack([turned, turned + 1]), zarr_format=2)
    array.attrs["_ARRAY_DIMENSIONS"] = ["c", "x", "z", "y"]
    assert info_of(path).channels == 2
    np.testing.assert_array_equal(read_all(path, channel=1), example("uint8") + 1)


@pytest.mark.parametrize("shape", [(2, *SHAPE), (*SHAPE, 3)])
def test_more_axes_without_names_are_not_guessed(tmp_path, shape):
    zarr.create_array(tmp_path / "stack.zarr", shape=shape, dtype="uint8")
    with pytest.raises(UnreadableFileError, match="does not tell which of its 4 axes"):
        open_volume(tmp_path / "stack.zarr")


def test_chunks_that_were_never_written_have_the_fill_value(tmp_path):
    path = write_by_hand(tmp_path / "stack.zarr", example("uint16"), fill_value=7)
    (path / "1.0.0").unlink()
    expected = example("uint16")
    expected[2:4, :16, :20] = 7
    np.testing.assert_array_equal(read_all(path), expected)


def test_a_damaged_chunk_is_met_when_it_is_read(stack):
    content = (stack / "1.1.1").read_bytes()
    (stack / "1.1.1").write_bytes(content[:30] + bytes(20) + content[50:])
    with open_volume(stack) as reader:
        np.testing.assert_array_equal(reader.read(Roi.slice_of(SHAPE, 0))[0], example("uint16")[0])
        with pytest.raises(UnreadableFileError, match=r"stack\.zarr.*cannot be decoded"):
            reader.read(Roi.slice_of(SHAPE, 2))


@pytest.mark.parametrize("codec", ["blosc", "zstd", "gzip", "bytes"])
def test_chunks_of_any_compression_that_were_cut_off_are_refused(tmp_path, codec):
    path = tmp_path / "stack.zarr"
    options = {"blosc": zarr.codecs.BloscCodec(), "zstd": zarr.codecs.ZstdCodec()}
    compressors = options | {"gzip": zarr.codecs.GzipCodec(), "bytes": None}
    data = example("uint16")
    zarr.create_array(path, data=data, chunks=CHUNKS, compressors=compressors[codec])
    np.testing.assert_array_equal(read_all(path), data)
    for share in (0, 1, 2, 3):
        file = chunk_files(path)[0]
        file.write_bytes(file.read_bytes()[: file.stat().st_size * share // 4])
        with pytest.raises(UnreadableFileError, match="cannot be decoded"):
            read_all(path)
        zarr.create_array(
            path, data=data, chunks=CHUNKS, compressors=compressors[codec], overwrite=True
        )


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("missing", [1, 7, 1900])
def test_noise_that_was_cut_off_is_refused(tmp_path, version, missing):
    # Blosc stores what it cannot compress, and its library reads on behind the end.
    noise = np.random.default_rng(0).integers(0, 256, SHAPE, "uint8")
    path = tmp_path / "stack.zarr"
    codec = zarr.codecs.BloscCodec() if version == 3 else numcodecs.Blosc()
    chunks = {"chunks": (5, 20, 20), "compressors": codec, "zarr_format": version}
    zarr.create_array(path, data=noise, **chunks)
    np.testing.assert_array_equal(read_all(path), noise)
    file = chunk_files(path)[0]
    file.write_bytes(file.read_bytes()[:-missing])
    with pytest.raises(UnreadableFileError, match="chunk of Blosc"):
        read_all(path)


def test_a_huge_array_that_was_hardly_written_is_read_by_region(tmp_path):
    path = tmp_path / "sparse.zarr"
    chunks = {"chunks": (4, 64, 64), "shards": (64, 1024, 1024)}
    array = zarr.create_array(path, shape=(2**40,) * 3, dtype="uint8", fill_value=7, **chunks)
    array[2**39, 2**39, :5] = 9
    with open_volume(path) as reader:
        corner = reader.read(Roi(2**39, 2**39, 0, 1, 1, 7))
        assert reader.fingerprint()
    assert corner.tolist() == [[[9, 9, 9, 9, 9, 7, 7]]]


@pytest.mark.parametrize(
    "metadata",
    [
        {"shape": [5, 37]},
        {"shape": [5, 37, -1]},
        {"shape": [0, 37, 53]},
        {"shape": "large"},
        {"chunks": [0, 16, 20]},
        {"chunks": [2, 16]},
        {"dtype": ">c8"},
        {"dtype": "|S3"},
        {"dtype": "numbers"},
        {"dtype": [["a", "<u2"], ["b", "<u2"]]},
        {"compressor": {"id": "unheard of"}},
        {"order": "K"},
        {"zarr_format": 9},
    ],
)
def test_metadata_that_make_no_sense_are_refused(tmp_path, metadata):
    path = write_by_hand(tmp_path / "stack.zarr", example("uint16"), **metadata)
    with pytest.raises(UnreadableFileError, match=r"stack\.zarr"):
        read_all(path)


def test_a_copy_has_the_same_fingerprint_and_other_voxels_another(stack, tmp_path):
    copy = shutil.copytree(stack, tmp_path / "copy.zarr")
    assert fingerprint(copy) == fingerprint(stack)
    changed = example("uint16")
    changed[4, 36, 52] += 1
    assert fingerprint(write_by_hand(tmp_path / "edit.zarr", changed)) != fingerprint(stack)
    wider = write_by_hand(tmp_path / "wide.zarr", example("uint16"), shape=[5, 37, 54])
    assert fingerprint(wider) != fingerprint(stack)


def test_the_fingerprint_of_a_large_array_reads_a_few_chunks(tmp_path, monkeypatch):
    chunks = {"chunks": (8, 8, 8), "shards": (64, 64, 64)}
    zarr.create_array(tmp_path / "a.zarr", shape=(512, 512, 512), dtype="uint8", **chunks)
    with open_volume(tmp_path / "a.zarr") as reader:
        regions = []
        monkeypatch.setattr(
            reader, "read", lambda roi: regions.append(roi) or np.zeros(roi.shape, "uint8")
        )
        reader.fingerprint()
    assert len(regions) == len(set(regions)) == 64
    assert {roi.z // 256 for roi in regions} == {0, 1}
