import bisect
import contextlib
import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from label_studio_sdk.converter.brush import decode_rle, mask2rle

from biosegment.brush import decode_mask, encode_mask
from biosegment.errors import BrushError

LABEL_STUDIO_SIZES = (3, 4, 8, 16)

shapes = array_shapes(min_dims=2, max_dims=2, max_side=40)
masks = st.one_of(
    arrays(np.uint8, shapes),
    arrays(np.uint8, shapes, elements=st.sampled_from([0, 255])),
    arrays(np.uint8, shapes, elements=st.sampled_from([0, 255]), fill=st.just(0)),
)


def sdk_decode(rle, shape):
    return decode_rle(rle).reshape(*shape, 4)[:, :, 3]


def write_stream(tokens, word_bits=8, sizes=LABEL_STUDIO_SIZES, length=None):
    """Write tokens (is a run, which size, values; a run's values are equal) bit by bit."""
    if length is None:
        length = sum(len(values) for _, _, values in tokens)
    bits = f"{length:032b}{word_bits - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)
    for is_run, chosen, values in tokens:
        bits += f"{is_run:b}{chosen:02b}{len(values) - 1:0{sizes[chosen]}b}"
        bits += "".join(f"{value:0{word_bits}b}" for value in (values[:1] if is_run else values))
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def cut(is_run, values):
    for start in range(0, len(values), 1 << 16):
        piece = values[start : start + (1 << 16)]
        yield is_run, bisect.bisect_left([8, 16, 256], len(piece)), piece


def page_tokens(rgba):
    """Cut an image as the page's encoder does: runs, and literals where no value repeats."""
    literals = []
    for _, run in itertools.groupby(rgba.ravel().tolist()):
        values = list(run)
        if len(values) == 1:
            literals += values
        else:
            yield from cut(False, literals)
            yield from cut(True, values)
            literals = []
    yield from cut(False, literals)


@st.composite
def streams(draw):
    word_bits = draw(st.integers(1, 32))
    sizes = draw(st.tuples(*[st.integers(1, 16)] * 4))
    value = st.integers(0, min(255, (1 << word_bits) - 1))
    tokens = []
    for _ in range(draw(st.integers(0, 12))):
        is_run, chosen = draw(st.booleans()), draw(st.integers(0, 3))
        longest = min(1 << sizes[chosen], 3000 if is_run else 30)
        if is_run:
            values = [draw(value)] * draw(st.integers(1, longest))
        else:
            values = draw(st.lists(value, min_size=1, max_size=longest))
        tokens.append((is_run, chosen, values))
    length = sum(len(values) for _, _, values in tokens)
    tokens += [(False, 0, [draw(value)])] * (-length % 4)
    return tokens, word_bits, sizes


@given(masks)
def test_every_8_bit_mask_survives_the_round_trip(mask):
    decoded = decode_mask(encode_mask(mask), mask.shape)
    assert decoded.dtype == np.uint8
    np.testing.assert_array_equal(decoded, mask)


@given(masks)
def test_the_sdk_decodes_what_is_encoded(mask):
    np.testing.assert_array_equal(sdk_decode(encode_mask(mask), mask.shape), mask)


@given(masks)
def test_what_the_sdk_encodes_is_decoded(mask):
    np.testing.assert_array_equal(decode_mask(mask2rle(mask), mask.shape), mask)


@given(masks)
def test_a_mask_takes_no_more_bytes_than_the_sdk_makes_of_it(mask):
    assert len(encode_mask(mask)) <= len(mask2rle(mask))


@given(streams())
def test_every_word_size_and_run_size_is_decoded(stream):
    tokens, word_bits, sizes = stream
    rle = write_stream(tokens, word_bits, sizes)
    values = np.array([value for _, _, run in tokens for value in run], np.uint8)
    np.testing.assert_array_equal(decode_rle(rle), values)  # the stream is what it should be
    np.testing.assert_array_equal(decode_mask(rle, (1, values.size // 4))[0], values[3::4])


@given(
    arrays(np.bool_, shapes),
    st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 255)),
)
def test_what_the_page_paints_is_decoded_whatever_the_colour(painted, colour):
    rgba = painted[:, :, None] * np.array([*colour, 255], np.uint8)
    rle = write_stream(list(page_tokens(rgba)))
    np.testing.assert_array_equal(decode_mask(rle, painted.shape) > 0, painted)


def test_a_large_painted_area_is_decoded():
    y, x = np.ogrid[:300, :400]
    painted = (y - 150) ** 2 + (x - 200) ** 2 < 140**2
    painted[40:250] = True
    rgba = painted[:, :, None] * np.array([211, 95, 18, 255], np.uint8)
    rle = write_stream(list(page_tokens(rgba)))
    np.testing.assert_array_equal(decode_mask(rle, painted.shape), painted * np.uint8(255))


@pytest.mark.parametrize("value", [0, 1, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1), (300, 200), (128, 128)])
def test_one_value_everywhere(shape, value):
    mask = np.full(shape, value, np.uint8)
    rle = encode_mask(mask)
    assert len(rle) < 30
    np.testing.assert_array_equal(decode_mask(rle, shape), mask)
    np.testing.assert_array_equal(sdk_decode(rle, shape), mask)


@pytest.mark.parametrize("values", [2, 256])
def test_noise_of_many_runs(values):
    mask = np.random.default_rng(5).integers(0, values, (150, 170), np.uint8)
    rle = encode_mask(mask)
    np.testing.assert_array_equal(decode_mask(rle, mask.shape), mask)
    np.testing.assert_array_equal(sdk_decode(rle, mask.shape), mask)
    np.testing.assert_array_equal(decode_mask(mask2rle(mask), mask.shape), mask)


def test_bool_is_encoded_as_0_and_255():
    mask = np.eye(7, 9, dtype=bool)
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), mask.shape), mask * np.uint8(255))


def test_a_view_of_another_memory_order_is_encoded_row_by_row():
    mask = np.arange(60, dtype=np.uint8).reshape(6, 10).T[::2]
    np.testing.assert_array_equal(decode_mask(encode_mask(mask), mask.shape), mask)


@pytest.mark.parametrize("shape", [(0, 0), (0, 7), (7, 0)])
def test_a_mask_without_pixels(shape):
    assert decode_mask(encode_mask(np.zeros(shape, np.uint8)), shape).shape == shape


def test_the_list_can_be_sent_as_json():
    assert {type(byte) for byte in encode_mask(np.eye(5, dtype=bool))} == {int}


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((2, 2), np.int64),
        np.zeros((2, 2)),
        np.zeros(4, np.uint8),
        np.zeros((1, 2, 2), bool),
    ],
)
def test_another_dtype_or_number_of_axes_is_refused(mask):
    with pytest.raises(BrushError, match="not uint8 or bool"):
        encode_mask(mask)


def test_more_pixels_than_the_format_counts_are_refused():
    with pytest.raises(BrushError, match="more than the format can count"):
        encode_mask(np.broadcast_to(np.uint8(0), (1 << 15, 1 << 15)))


@pytest.mark.parametrize(
    "rle", [None, 1 << 40, "AAAA", [1.5] * 9, [256] * 9, [-1] * 9, ["1"] * 9, [None] * 9]
)
def test_what_is_no_list_of_bytes_is_refused(rle):
    with pytest.raises(BrushError, match="numbers from 0 to 255"):
        decode_mask(rle, (1, 1))


@pytest.mark.parametrize("shape", [(20, 31), (19, 30), (1, 1), (0, 0)])
def test_another_number_of_pixels_is_refused(shape):
    with pytest.raises(BrushError, match=r"holds 2400 values, but .* pixels have"):
        decode_mask(encode_mask(np.zeros((20, 30), np.uint8)), shape)


@given(masks, st.data())
def test_a_cut_stream_is_refused(mask, data):
    rle = encode_mask(mask)
    with pytest.raises(BrushError, match="it ends before"):
        decode_mask(rle[: data.draw(st.integers(0, len(rle) - 1))], mask.shape)


def test_cut_literals_are_refused():
    rle = write_stream([(False, 3, [1, 2, 3, 4] * 50)])
    with pytest.raises(BrushError, match="it ends before its last value"):
        decode_mask(rle[:-1], (5, 10))


@pytest.mark.parametrize("is_run", [True, False])
def test_a_token_past_the_last_value_is_refused(is_run):
    rle = write_stream([(is_run, 0, [7] * 5)], length=4)
    with pytest.raises(BrushError, match="goes past the 4 values"):
        decode_mask(rle, (1, 1))


@pytest.mark.parametrize("is_run", [True, False])
def test_alpha_of_more_than_8_bits_is_refused(is_run):
    with pytest.raises(BrushError, match="more than 8 bits"):
        decode_mask(write_stream([(is_run, 0, [256] * 4)], word_bits=16), (1, 1))


@settings(max_examples=200)
@given(
    st.binary(max_size=200),
    st.integers(0, 31),
    st.lists(st.integers(0, 15), min_size=4, max_size=4),
)
def test_arbitrary_bytes_give_a_mask_or_one_clear_error(body, word, sizes):
    header = int(f"{6 * 9 * 4:032b}{word:05b}" + "".join(f"{size:04b}" for size in sizes), 2) << 3
    rle = [*header.to_bytes(7), *body]
    with contextlib.suppress(BrushError):
        assert decode_mask(rle, (6, 9)).shape == (6, 9)


@pytest.mark.parametrize(
    ("length", "shape"), [((1 << 32) - 1, (4, 4)), (4 * 32767**2, (32767, 32767))]
)
def test_an_absurd_length_takes_no_memory(length, shape):
    rle = write_stream([(True, 3, [255] * 64)], length=length)
    tracemalloc.start()
    try:
        with pytest.raises(BrushError):
            decode_mask(rle, shape)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_long_padding_takes_little_memory():
    rle = encode_mask(np.zeros((4, 4), np.uint8)) + [0] * 1_000_000
    tracemalloc.start()
    try:
        decode_mask(rle, (4, 4))
        # The list and the bytes are copied once; tokens in the padding would take far more.
        assert tracemalloc.get_traced_memory()[1] < 12e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("padding", [[0], [0] * 5000, [255] * 20])
def test_what_follows_the_last_value_is_ignored(padding):
    mask = np.eye(11, 13, dtype=np.uint8)
    np.testing.assert_array_equal(decode_mask(encode_mask(mask) + padding, mask.shape), mask)


def test_the_error_crosses_process_borders():
    error = BrushError("it ends before its header does")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
