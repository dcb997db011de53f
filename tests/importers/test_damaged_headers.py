"""Files whose headers were overwritten by chance: read or refused, never a crash or a wait."""

import gzip
import random
import struct
import time
import tracemalloc

import mrcfile
import nibabel
import nrrd
import numpy as np
import pytest
from pylibCZIrw import czi

from biosegment.errors import BioSegmentError
from biosegment.geometry import Roi
from importers.detect import open_volume
from importers.testing import example


def mrc(path):
    mrcfile.write(path, example("int16"), voxel_size=40)
    return 1024


def nifti(path):
    nibabel.save(nibabel.Nifti1Image(example("int16").T, np.diag([4, 5, 40, 1])), path)
    return 352


def gzipped_nrrd(path):
    header = {"spacings": [4, 5, 40], "units": ["nm"] * 3}
    nrrd.write(str(path), example("int16"), header, index_order="C")
    return path.read_bytes().index(b"\n\n") + 2


def text_nrrd(path):
    nrrd.write(str(path), example("int16"), {"encoding": "ascii"}, index_order="C")
    return path.read_bytes().index(b"\n\n") + 2


def zeiss(path):
    with czi.create_czi(str(path)) as document:
        for z, pixels in enumerate(example("uint8")):
            document.write(data=pixels[..., None], plane={"Z": z})
        document.write_metadata(document_name="cells")
    return path.stat().st_size


def real(folder, name):
    def copy(path):
        path.write_bytes((folder / name).read_bytes())
        return 2000

    return copy


def overwritten(content, size, chance):
    """Return the content with some numbers of its first `size` bytes replaced."""
    content = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 4])):
        width = chance.choice([1, 2, 4, 8])
        start = chance.randrange(size - width)
        extremes = [bytes(width), b"\xff" * width, b"\x7f" + b"\xff" * (width - 1)]
        content[start : start + width] = chance.choice([*extremes, chance.randbytes(width)])
    return bytes(content[: chance.choice([len(content)] * 9 + [chance.randrange(len(content))])])


def outcome(path):
    try:
        with open_volume(path) as reader:
            reader.read(Roi(0, 0, 0, 1, 1, reader.info.shape[2]))
    except BioSegmentError as exc:
        return "refused" if path.name in str(exc) else str(exc)
    return "read"


def check(path, write, trials=120):
    size = write(path)
    content = path.read_bytes()
    chance = random.Random(0)
    outcomes = set()
    tracemalloc.start()
    began = time.monotonic()
    for _ in range(trials):
        path.write_bytes(overwritten(content, size, chance))
        outcomes.add(outcome(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert outcomes == {"read", "refused"}
    assert peak < 2**26
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("stack.mrc", mrc),
        ("stack.nii", nifti),
        ("stack.nrrd", gzipped_nrrd),
        ("text.nrrd", text_nrrd),
        ("stack.czi", zeiss),
    ],
)
def test_a_header_overwritten_by_chance_does_no_harm(tmp_path, name, write):
    check(tmp_path / name, write, trials=30 if write is text_nrrd else 120)


@pytest.mark.parametrize("name", ["rosettasciio/test-1.dm3", "slicer/Segmentation.seg.nrrd"])
def test_real_headers_overwritten_by_chance_do_no_harm(real_formats, tmp_path, name):
    check(tmp_path / name.rpartition("/")[2], real(real_formats, name), trials=30)


def test_a_gzipped_header_may_promise_what_it_likes(tmp_path):
    path = tmp_path / "stack.mrc"
    mrc(path)
    content = bytearray(path.read_bytes())
    packed = tmp_path / "stack.mrc.gz"
    for extent in (2**10, 2**13, 2**20, 2**31 - 1):
        struct.pack_into("<3i", content, 0, extent, extent, extent)
        packed.write_bytes(gzip.compress(content))
        with pytest.raises(BioSegmentError, match=r"pack|cut off"):
            open_volume(packed)
