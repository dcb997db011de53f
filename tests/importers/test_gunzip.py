import gzip
import os
import shutil
import tempfile
import tracemalloc
from collections import namedtuple

import mrcfile
import nrrd
import numpy as np
import pytest

from biosegment.errors import DiskFullError, UnreadableFileError
from biosegment.geometry import Roi
from importers.detect import open_volume
from importers.gunzip import first_bytes, gunzipped

CONTENT = np.random.default_rng(0).integers(0, 9, 300_000, dtype="uint8").tobytes()
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def packed(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(CONTENT))
    return path


def test_gives_as_much_as_is_asked_for(packed):
    with gunzipped(packed, len(CONTENT)) as file:
        file.seek(0)
        assert file.read() == CONTENT
    with gunzipped(packed, 1000) as file:
        assert file.seek(0, 2) == 1000
    assert first_bytes(packed, 10) == CONTENT[:10]


def test_reads_streams_of_several_members(tmp_path):
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress(CONTENT[:1000]) + gzip.compress(CONTENT[1000:]))
    with gunzipped(path, len(CONTENT)) as file:
        file.seek(0)
        assert file.read() == CONTENT


def test_leaves_no_file_behind(packed, tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with gunzipped(packed, len(CONTENT)):
        pass
    with pytest.raises(UnreadableFileError):
        gunzipped(packed, len(CONTENT) + 1)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda content: content[: len(content) // 2], EOFError),
        (lambda content: content[:-8] + bytes(8), gzip.BadGzipFile),
        (lambda content: content[:-8], EOFError),
    ],
)
def test_a_damaged_stream_is_noticed_to_its_last_byte(packed, damage, reason):
    packed.write_bytes(damage(packed.read_bytes()))
    with pytest.raises(reason):
        gunzipped(packed, len(CONTENT))


def test_too_few_bytes_are_too_few(packed):
    with pytest.raises(UnreadableFileError, match="holds 300000 of the 300001 bytes"):
        gunzipped(packed, len(CONTENT) + 1)


def test_nothing_is_unpacked_that_cannot_be_true(packed, monkeypatch):
    monkeypatch.delattr(tempfile, "TemporaryFile")
    with pytest.raises(UnreadableFileError, match="more than a file of its size can pack"):
        gunzipped(packed, 2**40)


def test_nothing_is_unpacked_that_does_not_fit(packed, monkeypatch):
    monkeypatch.delattr(tempfile, "TemporaryFile")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**9, 10**9, 0))
    with pytest.raises(DiskFullError, match="TMPDIR"):
        gunzipped(packed, len(CONTENT))


def test_a_disk_that_fills_up_is_told(packed, monkeypatch):
    real = tempfile.TemporaryFile

    def on_a_full_disk(**options):
        device = real(**options)
        with open("/dev/full", "r+b", buffering=0) as full:
            os.dup2(full.fileno(), device.fileno())
        return device

    monkeypatch.setattr(tempfile, "TemporaryFile", on_a_full_disk)
    with pytest.raises(DiskFullError, match="No space left"):
        gunzipped(packed, len(CONTENT))


def zeros(path, shape):
    if path.name.endswith(".nrrd"):
        nrrd.write(str(path), np.zeros(shape, "uint8"), index_order="C")
    else:
        mrcfile.new(path, data=np.zeros(shape, "int8"), compression="gzip").close()


@pytest.mark.parametrize("name", ["stack.mrc.gz", "stack.nrrd"])
def test_a_packed_volume_is_never_whole_in_memory(tmp_path, name):
    path = tmp_path / name
    zeros(path, (64, 512, 512))
    tracemalloc.start()
    with open_volume(path) as reader:
        reader.read(Roi(40, 0, 0, 1, 512, 512))
        _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**23
