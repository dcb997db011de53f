"""Time the brush codec against the one of label-studio-sdk: ``python -m benchmarks.brush``."""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from numpy.typing import NDArray

from biosegment.brush import decode_mask, encode_mask

ROW = "{:<28} {:<34} {:>9} {:>9} {:>7}"


def median_ms(call: Callable[[], object], repeats: int) -> float:
    """Return the median duration of a call, after one that is not counted."""
    call()
    durations = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        durations.append(time.perf_counter() - start)
    return 1e3 * statistics.median(durations)


def blobs(size: int = 1024, count: int = 60, seed: int = 0) -> NDArray[np.bool_]:
    """Return a mask of ellipses of the sizes and coverage of mitochondria."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    mask = np.zeros((size, size), dtype=bool)
    for _ in range(count):
        centre_y, centre_x = rng.uniform(0, size, 2)
        radius_y, radius_x = rng.uniform(10, 45, 2)
        mask |= ((y - centre_y) / radius_y) ** 2 + ((x - centre_x) / radius_x) ** 2 < 1
    return mask


def sdk_decode(rle: list[int], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return the alpha channel of a brush mask as label-studio-sdk reads it."""
    return decode_rle(rle).reshape(*shape, 4)[:, :, 3]


def rows(name: str, mask: NDArray[np.uint8], repeats: int) -> list[tuple[str, str, float, float]]:
    """Return (mask, what was done, the SDK's time, ours) with times in ms or sizes in bytes."""
    height, width = mask.shape
    shape = (height, width)
    sdk_rle, rle = mask2rle(mask), encode_mask(mask)
    for stream in (sdk_rle, rle):
        np.testing.assert_array_equal(decode_mask(stream, shape), mask)
        np.testing.assert_array_equal(sdk_decode(stream, shape), mask)
    timed = functools.partial(median_ms, repeats=repeats)
    return [
        (name, "encode (ms)", timed(lambda: mask2rle(mask)), timed(lambda: encode_mask(mask))),
        (
            name,
            "decode what the SDK encoded (ms)",
            timed(lambda: sdk_decode(sdk_rle, shape)),
            timed(lambda: decode_mask(sdk_rle, shape)),
        ),
        (
            name,
            "decode what we encoded (ms)",
            timed(lambda: sdk_decode(rle, shape)),
            timed(lambda: decode_mask(rle, shape)),
        ),
        (name, "encoded size (bytes)", len(sdk_rle), len(rle)),
    ]


def main() -> None:
    """Print one row per mask and direction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--labels", type=Path, help="TIFF whose first page is the mask (> 0)")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    if arguments.labels:
        name, mask = "mitochondria", tifffile.imread(arguments.labels, key=0) > 0
    else:
        name, mask = "synthetic blobs", blobs()
    noise = np.random.default_rng(0).random((512, 512)) < 0.5
    print(ROW.format("mask", "label_studio_sdk.converter.brush =", "SDK", "ours", "ratio"))
    for title, pixels in ((name, mask), ("noise", noise)):
        title = f"{title} {pixels.shape[0]} x {pixels.shape[1]}"
        for label, what, sdk, ours in rows(title, pixels * np.uint8(255), arguments.repeats):
            decimals = 2 if what.endswith("(ms)") else 0
            figures = (f"{figure:,.{decimals}f}" for figure in (sdk, ours))
            print(ROW.format(label, what, *figures, f"{sdk / ours:.3g}"))


if __name__ == "__main__":
    main()
