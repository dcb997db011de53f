import errno
import os
import pickle
from pathlib import Path

import pytest

from biosegment.disk import explain_full_disk, write_atomically
from biosegment.errors import DiskFullError


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_said_in_a_sentence(tmp_path, code):
    with (
        pytest.raises(DiskFullError, match="free some space") as refusal,
        explain_full_disk(tmp_path),
    ):
        raise OSError(code, os.strerror(code))
    assert str(tmp_path) in str(refusal.value)
    assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)


def test_other_errors_of_the_system_pass(tmp_path):
    with pytest.raises(PermissionError), explain_full_disk(tmp_path):
        raise PermissionError(errno.EACCES, "no")


def test_a_full_device_is_recognised(tmp_path):
    with (
        pytest.raises(DiskFullError),
        explain_full_disk(tmp_path),
        Path("/dev/full").open("wb", buffering=0) as full,
    ):
        full.write(b"1")


def test_a_file_is_replaced_whole(tmp_path):
    write_atomically(tmp_path / "a", b"old")
    write_atomically(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_fails_leaves_the_old_file_alone(tmp_path):
    write_atomically(tmp_path / "a", b"old")
    with pytest.raises(TypeError):
        write_atomically(tmp_path / "a", "no bytes")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
