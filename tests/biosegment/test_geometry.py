import math
import pickle

import numpy as np
import pytest

from biosegment.errors import BoxError, RegionError, VoxelSizeError
from biosegment.geometry import Box, Roi, VoxelSize, nm_per_unit


@pytest.mark.parametrize("edge", [0, -1, math.nan, math.inf])
def test_an_impossible_voxel_size_is_refused(edge):
    with pytest.raises(ValueError, match="finite and above 0"):
        VoxelSize(40, 4, edge)


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("nm", 1),
        ("nanometer", 1),
        ("um", 1e3),
        ("µm", 1e3),  # the micro sign
        ("μm", 1e3),  # the Greek letter
        ("\\u00B5m", 1e3),
        (" Micron ", 1e3),
        ("mm", 1e6),
        ("Å", 0.1),
        ("A", 0.1),
        ("pixel", None),
        ("", None),
    ],
)
def test_units_of_length(unit, nm):
    assert nm_per_unit(unit) == nm


@pytest.mark.parametrize(
    ("text", "zyx"),
    [
        ("40,5,5nm", (40, 5, 5)),
        ("40, 5, 4.5 nm", (40, 5, 4.5)),
        ("0.04,0.005,0.004um", (40, 5, 4)),
        ("0.04µm,50A,4nm", (40, 5, 4)),
        ("40,5,4e-3 um", (40_000, 5000, 4)),
        (".04,.005,.004 um", (40, 5, 4)),
    ],
)
def test_a_voxel_size_in_words(text, zyx):
    assert VoxelSize.parse(text).zyx == pytest.approx(zyx)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("40,5,5", "no unit"),
        ("40nm,5nm,5", "no unit"),
        ("5nm", "1 numbers, not 3"),
        ("4,6,4,6,40 nm", "5 numbers, not 3"),
        ("40,5,5px", "unit is not known"),
        ("a,b,cnm", "no numbers"),
        ("40,-5,5nm", "no numbers"),
        ("40,0,5nm", "above 0"),
        ("40,5,1e999nm", "above 0"),
        ("5,5,5mm", "below 100 µm"),
        ("100,1,1um", "below 100 µm"),
        ("0.001,5,5nm", "at least 0.01 nm"),
    ],
)
def test_what_is_no_voxel_size_is_refused_with_the_reason(text, said):
    with pytest.raises(VoxelSizeError, match=said) as refusal:
        VoxelSize.parse(text)
    assert "--voxel-size 40,5,5nm" in str(refusal.value)


def test_a_region_indexes_what_it_says():
    volume = np.arange(4 * 5 * 6).reshape(4, 5, 6)
    block = volume[Roi(1, 2, 3, 2, 1, 3).slices]
    assert block.shape == Roi(1, 2, 3, 2, 1, 3).shape == (2, 1, 3)
    assert block[0, 0, 0] == volume[1, 2, 3]


def test_whole_and_slice_of_a_volume():
    assert Roi.whole((4, 5, 6)).shape == (4, 5, 6)
    assert Roi.slice_of((4, 5, 6), 3) == Roi(3, 0, 0, 1, 5, 6)


@pytest.mark.parametrize("values", [(-1, 0, 0, 1, 1, 1), (0, 0, -2, 1, 1, 1), (0, 0, 0, 1, 0, 1)])
def test_a_region_without_voxels_or_before_the_start_is_refused(values):
    with pytest.raises(ValueError, match="holds a voxel"):
        Roi(*values)


def test_a_region_must_end_within_its_volume():
    Roi(1, 2, 3, 3, 3, 3).check_within((4, 5, 6))
    for roi in (Roi(1, 2, 3, 4, 3, 3), Roi(1, 2, 3, 3, 4, 3), Roi(1, 2, 3, 3, 3, 4)):
        with pytest.raises(RegionError, match=r"\(4, 5, 6\)") as refusal:
            roi.check_within((4, 5, 6))
        assert str(pickle.loads(pickle.dumps(refusal.value))) == str(refusal.value)


@pytest.mark.parametrize(
    ("text", "roi"),
    [
        (":,:,:", Roi(0, 0, 0, 5, 37, 53)),
        ("1:3, 2:, :50", Roi(1, 2, 0, 2, 35, 50)),
        ("4:5,36:37,52:53", Roi(4, 36, 52, 1, 1, 1)),
    ],
)
def test_a_box_is_three_ranges(text, roi):
    assert Box.parse(text).within((5, 37, 53)) == roi


@pytest.mark.parametrize("text", ["", "0:1", "0:1,2:3", "1,2,3", "a:b,:,:", "3:2,:,:", "-1:2,:,:"])
def test_what_is_no_box_is_told(text):
    with pytest.raises(BoxError, match="from:to"):
        Box.parse(text)


@pytest.mark.parametrize("text", ["0:6,:,:", ":,40:,:", ":,:,:54"])
def test_a_box_that_leaves_the_volume_is_refused(text):
    with pytest.raises(RegionError, match="does not fit"):
        Box.parse(text).within((5, 37, 53))
