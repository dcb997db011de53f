import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from importers.packing import inflated, most_in_runs, numbers, part_of, run_lengths


def in_pieces(content, size):
    return iter([content[start : start + size] for start in range(0, len(content), size)])


def by_the_book(packed):
    """Undo run lengths one by one."""
    content, place = b"", 0
    while place < len(packed):
        code = packed[place]
        if code < 128:
            content += packed[place + 1 : place + 2] * code
            place += 2
        else:
            content += packed[place + 1 : place + 1 + code - 128]
            place += 1 + code - 128
    return content


@given(
    runs=st.lists(
        st.one_of(
            st.tuples(st.integers(0, 127), st.binary(min_size=1, max_size=1)),
            st.binary(max_size=127),
        ),
        max_size=12,
    ),
    size=st.integers(1, 50),
)
def test_run_lengths_of_any_kind_come_apart_in_any_pieces(runs, size):
    packed = b"".join(
        bytes([128 + len(run)]) + run if isinstance(run, bytes) else bytes([run[0]]) + run[1]
        for run in runs
    )
    content = b"".join(run_lengths(in_pieces(packed, size)))
    assert content == by_the_book(packed)
    assert len(content) <= most_in_runs(len(packed))


def test_run_lengths_give_no_empty_piece_and_no_half_run():
    assert list(run_lengths(iter([b"\x00\x05\x80", b"\x03\x07\x82\x01"]))) == [b"\x07\x07\x07"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_zlib_stream_is_inflated_in_pieces(size, monkeypatch):
    monkeypatch.setattr("importers.packing._CHUNK_BYTES", 100)
    content = bytes(5000) + np.random.default_rng(0).bytes(300) + b"behind"
    pieces = list(inflated(in_pieces(zlib.compress(content) + b"rubbish", size)))
    assert b"".join(pieces) == content
    assert all(0 < len(piece) <= 300 for piece in pieces)


def test_a_zlib_stream_without_its_end_is_refused():
    packed = zlib.compress(bytes(1000))
    for end in (0, 5, len(packed) - 1):
        with pytest.raises(EOFError):
            list(inflated(iter([packed[:end]])))
    with pytest.raises(zlib.error):
        list(inflated(iter([packed[:-1] + b"\0"])))


def test_numbers_are_read_across_pieces():
    pieces = numbers(in_pieces(b" 12\n-7\r\n\t300 4", 2), np.dtype("int16"))
    np.testing.assert_array_equal(np.frombuffer(b"".join(pieces), "int16"), [12, -7, 300, 4])


@pytest.mark.parametrize("text", [b"1 two 3", b"1 2.5 3", b"1 300 3"])
def test_what_is_no_number_of_the_type_is_refused(text):
    with pytest.raises((ValueError, OverflowError)):
        list(numbers(iter([text]), np.dtype("uint8")))


def test_a_part_of_a_file_ends_where_it_should(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(bytes(range(100)))
    with path.open("rb") as file:
        file.seek(10)
        assert b"".join(part_of(file, 5)) == bytes(range(10, 15))
        assert b"".join(part_of(file, 1000)) == bytes(range(15, 100))
        assert list(part_of(file, -1)) == []
