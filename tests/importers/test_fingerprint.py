import shutil

import numpy as np
import pytest

from importers.fingerprint import fingerprint


def test_a_copy_has_the_same_fingerprint(tmp_path):
    (tmp_path / "a").write_bytes(b"one recording")
    shutil.copyfile(tmp_path / "a", tmp_path / "b")
    assert fingerprint([tmp_path / "a"]) == fingerprint([tmp_path / "b"])


def test_the_order_and_borders_of_files_count(tmp_path):
    for name, content in (("a", b"12"), ("b", b"3"), ("c", b"1"), ("d", b"23")):
        (tmp_path / name).write_bytes(content)
    a, b, c, d = (tmp_path / name for name in "abcd")
    assert len({fingerprint(files) for files in ([a, b], [b, a], [c, d])}) == 3


def test_one_changed_byte_of_a_small_file_shows(tmp_path):
    (tmp_path / "a").write_bytes(bytes(100_000))
    before = fingerprint([tmp_path / "a"])
    (tmp_path / "a").write_bytes(bytes(50_000) + b"\1" + bytes(49_999))
    assert fingerprint([tmp_path / "a"]) != before


@pytest.mark.parametrize("place", ["start", "middle", "end", "longer"])
def test_a_large_file_is_told_by_samples_of_it(tmp_path, place):
    size = 100 * 2**20
    with (tmp_path / "a").open("wb") as file:
        file.truncate(size)
    before = fingerprint([tmp_path / "a"])
    noise = np.random.default_rng(0).bytes(2**20)
    with (tmp_path / "a").open("r+b") as file:
        file.seek({"start": 0, "middle": size // 2, "end": size - 2**20, "longer": size}[place])
        file.write(noise)
    assert fingerprint([tmp_path / "a"]) != before
