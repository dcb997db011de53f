"""Label Studio's brush masks: run-length encoded RGBA images, whose alpha channel is the mask.

The format is that of thi.ng/rle-pack (https://github.com/thi-ng/umbrella, packages/rle-pack): a bit
stream, most significant bit first, that begins with the number of values (32 bits), the word size
minus one (5 bits) and four run sizes minus one (4 bits each). Tokens follow: one bit that tells a
run from literals, two bits that choose a run size, a count minus one of that many bits, then one
word for a run or as many words as counted for literals.

It cannot store the height and width, values of more than 8 bits, or 2**30 pixels and more. Encoding
writes the mask to all four channels; decoding reads the alpha channel alone, so the colour that the
page paints with is dropped.

Examples
--------
>>> import numpy as np
>>> mask = np.array([[0, 255, 255]], np.uint8)
>>> decode_mask(encode_mask(mask), mask.shape)
array([[  0, 255, 255]], dtype=uint8)
"""

import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biosegment.errors import BrushError

CHANNELS = 4
WORD_BITS = 8
MAX_RUN = 1 << 16
KIND_BITS = 3  # run or literals, and which of the four run sizes
HEADER_BITS = 32 + 5 + 4 * 4
WINDOW_BYTES = 1 << 12  # keeps the jumps of one window in the processor's cache

Ints = NDArray[np.int64]
Mask = NDArray[np.uint8] | NDArray[np.bool_]


def encode_mask(mask: Mask) -> list[int]:
    """Return a mask as Label Studio stores it in ``value.rle``, in as few bytes as runs allow.

    Parameters
    ----------
    mask : ndarray of uint8 or bool, shape (H, W)
        Any 8-bit values are kept exactly; True is stored as 255.

    Returns
    -------
    list of int
        Bytes, 0 to 255.

    Raises
    ------
    BrushError
        If the mask has another dtype or number of axes, or 2**30 pixels or more.
    """
    if mask.ndim != 2 or mask.dtype not in (np.uint8, np.bool_):
        raise BrushError(f"it is {mask.dtype} of shape {mask.shape}, not uint8 or bool of (y, x)")
    if mask.size * CHANNELS >= 1 << 32:
        raise BrushError(f"its {mask.size} pixels are more than the format can count")
    values, lengths = _runs(mask)
    counts = lengths - 1
    needed = np.frexp(counts)[1]  # the binary exponent of an integer is its bit length
    sizes = _shortest_sizes(np.bincount(needed, minlength=17))
    chosen = np.searchsorted(sizes, needed)
    widths = KIND_BITS + sizes[chosen] + WORD_BITS
    tokens = (4 | chosen) << (widths - KIND_BITS) | counts << WORD_BITS | values
    layout = WORD_BITS - 1
    for size in sizes.tolist():
        layout = layout << 4 | (size - 1)
    return _pack(
        np.concatenate(([mask.size * CHANNELS, layout], tokens)),
        np.concatenate(([32, HEADER_BITS - 32], widths)),
    )


def _runs(mask: Mask) -> tuple[Ints, Ints]:
    """Return the value of each run of channel values, and its length of at most MAX_RUN."""
    pixels = mask.reshape(-1)
    starts = np.append(0, np.flatnonzero(pixels[1:] != pixels[:-1]) + 1)[: pixels.size]
    values = pixels[starts].astype(np.int64)
    if mask.dtype == np.bool_:
        values *= 255
    lengths = np.diff(starts, append=pixels.size) * CHANNELS
    parts = -(-lengths // MAX_RUN)
    pieces = np.full(parts.sum(), MAX_RUN)
    pieces[np.cumsum(parts) - 1] = lengths - (parts - 1) * MAX_RUN
    return np.repeat(values, parts), pieces


@functools.cache
def _size_choices() -> tuple[Ints, Ints]:
    """Return each choice of four run sizes, and its smallest size for every needed bit length."""
    choices = np.array(list(itertools.combinations(range(1, 17), 4)))
    unusable = MAX_RUN
    sizes = np.where(choices[:, :, None] >= np.arange(17), choices[:, :, None], unusable)
    return choices, sizes.min(axis=1)


def _shortest_sizes(needed_counts: Ints) -> Ints:
    """Return the run sizes that store counts of these bit lengths (a histogram) in fewest bits."""
    choices, sizes = _size_choices()
    best: Ints = choices[np.argmin(sizes @ needed_counts)]
    return best


def _pack(fields: Ints, widths: Ints) -> list[int]:
    """Return the bytes of a stream of bit fields, each up to 32 bits wide."""
    ends = np.cumsum(widths)
    starts = ends - widths
    words = starts >> 5
    placed = fields.astype(np.uint64) << (64 - (starts & 31) - widths).astype(np.uint64)
    # No field is wider than a 32-bit word, so one starts in every word and none reaches a third.
    joined = np.bitwise_or.reduceat(placed, np.flatnonzero(np.diff(words, prepend=-1)))
    packed = np.zeros(joined.size + 1, dtype=np.uint64)
    packed[:-1] = joined >> np.uint64(32)
    packed[1:] |= joined & np.uint64(0xFFFFFFFF)
    return list(packed.astype(">u4").tobytes()[: -(-int(ends[-1]) // 8)])


def decode_mask(rle: Sequence[int], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the alpha channel of a brush mask, for any word size and run sizes.

    Parameters
    ----------
    rle : sequence of int
        Bytes, as found in ``value.rle``; what follows the last value is ignored.
    shape : tuple of int
        Height and width, as found in ``original_height`` and ``original_width``.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        Painted where it is above 0; the page paints with 255.

    Raises
    ------
    BrushError
        If the bytes are no such stream, or hold another number of values than the shape needs.
    """
    stream = _parse(rle)
    height, width = shape
    if stream.length != height * width * CHANNELS:
        raise BrushError(
            f"it holds {stream.length} values, but {height} x {width} pixels have "
            f"{height * width * CHANNELS}"
        )
    return _alpha(stream, _token_starts(stream)).reshape(shape)


@dataclass(frozen=True, slots=True)
class _Stream:
    """A brush mask whose header is read. A token's kind is its first three bits."""

    words: Ints
    """Per byte, the eight bytes that begin there: an overlapping big-endian view."""
    end: int
    """Size in bits."""
    length: int
    """Number of values."""
    word_bits: int
    """Bits of one value."""
    count_bits: Ints
    """Bits of a token's count, by its kind."""

    def read(self, offsets: Ints, bits: int | Ints) -> Ints:
        """Return the numbers of up to 32 bits each that begin at these bits."""
        words = self.words[offsets >> 3].astype(np.int64)
        numbers: Ints = words >> (64 - (offsets & 7) - bits) & ((1 << bits) - 1)
        return numbers

    def read_values(self, offsets: Ints) -> NDArray[np.uint8]:
        """Return the values that begin at these bits."""
        values = self.read(offsets, self.word_bits)
        if values.max(initial=0) > 255:
            raise BrushError("it holds values of more than 8 bits")
        return values.astype(np.uint8)


def _parse(rle: Sequence[int]) -> _Stream:
    try:
        # Unpacked first, because bytes() of a lone number would be that many zeros.
        data = bytes([*rle])
    except (TypeError, ValueError) as exc:
        raise BrushError("it is not a list of numbers from 0 to 255") from exc
    if len(data) * 8 < HEADER_BITS:
        raise BrushError("it ends before its header does")
    header = int.from_bytes(data[:7]) >> 7 * 8 - HEADER_BITS
    length = header >> 21
    sizes = [(header >> shift & 15) + 1 for shift in (12, 8, 4, 0)]
    # No value takes more than 3 + 16 + 32 bits, so what lies behind 7 bytes for each is padding.
    data = data[: 7 * (1 + length)]
    return _Stream(
        words=np.ndarray(len(data) + 1, ">i8", data + bytes(8), strides=(1,)),
        end=len(data) * 8,
        length=length,
        word_bits=(header >> 16 & 31) + 1,
        count_bits=np.array(sizes * 2),
    )


def _token_starts(stream: _Stream) -> Ints:
    """Return the bit that each token begins at, were there tokens up to the end of the stream.

    Where a token ends is known only from its start. So the end is computed for every bit as if a
    token began there, and the true starts are found by doubling: the jump over n tokens takes the
    first n starts to the next n, and applied to itself it is the jump over 2n.
    """
    fixed_bits = KIND_BITS + stream.count_bits + stream.word_bits
    # A run has one word whatever it counts: its count is shifted out of sight.
    count_shifts = np.where(np.arange(8) < 4, 32 - KIND_BITS - stream.count_bits, 32)
    found, start = [], HEADER_BITS
    while start < stream.end:
        first = start >> 3
        words = stream.words[first : min(first + WINDOW_BYTES, stream.end >> 3)].astype(np.int64)
        window = words.size * 8
        heads = (words[:, None] >> 32 - np.arange(8)).ravel() & 0xFFFFFFFF
        kinds = heads >> 32 - KIND_BITS
        counts = (heads & (1 << 32 - KIND_BITS) - 1) >> count_shifts.take(kinds)
        ends = np.arange(window) + fixed_bits.take(kinds) + counts * stream.word_bits
        jump = np.append(np.minimum(ends, window), window)
        starts = np.array([start & 7])
        while starts[-1] < window:
            starts = np.append(starts, jump[starts])
            jump = jump.take(jump)
        starts = starts[: np.searchsorted(starts, window)]
        found.append(starts + first * 8)
        start = first * 8 + int(ends[starts[-1]])
    return np.concatenate(found)


def _alpha(stream: _Stream, starts: Ints) -> NDArray[np.uint8]:
    """Return every fourth value of the tokens that begin at these bits."""
    kinds = stream.read(starts, KIND_BITS)
    count_bits = stream.count_bits[kinds]
    counts = stream.read(starts + KIND_BITS, count_bits) + 1
    offsets = starts + KIND_BITS + count_bits
    firsts = np.cumsum(counts) - counts
    used = int(np.searchsorted(firsts, stream.length))  # the rest is padding
    kinds, counts, offsets, firsts = kinds[:used], counts[:used], offsets[:used], firsts[:used]
    is_run = kinds >= 4
    ends = offsets + np.where(is_run, 1, counts) * stream.word_bits
    if counts.sum() < stream.length or ends.max(initial=0) > stream.end:
        raise BrushError("it ends before its last value")
    if counts.sum() > stream.length:
        raise BrushError(f"its last token goes past the {stream.length} values it should hold")

    pixels = np.append(firsts, stream.length) // CHANNELS
    sizes = np.diff(pixels)
    values = np.zeros(used, np.uint8)
    values[is_run] = stream.read_values(offsets[is_run])
    alpha = np.repeat(values, sizes)

    # Alpha is the last channel: pixel p of a literal token is its value 4 p + 3 - first.
    literal = ~is_run
    sizes = sizes[literal]
    earlier = np.cumsum(sizes) - sizes
    places = np.arange(sizes.sum()) + np.repeat(pixels[:-1][literal] - earlier, sizes)
    origins = offsets[literal] + (CHANNELS - 1 - firsts[literal]) * stream.word_bits
    alpha[places] = stream.read_values(
        np.repeat(origins, sizes) + places * (CHANNELS * stream.word_bits)
    )
    return alpha
