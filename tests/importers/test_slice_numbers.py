import pytest

from importers.slice_numbers import number_notices


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ([1, 2, 3, 5], ["Slice 4 is missing between s3.tif and s5.tif"]),
        ([11, 12, 13, 16], ["Slices 14 to 15 are missing between s13.tif and s16.tif"]),
        ([0, 10, 20, 40], ["Slice 30 is missing between s20.tif and s40.tif"]),
        ([0, 10, 20, 60], ["Slices 30 to 50 are missing between s20.tif and s60.tif"]),
        ([1, 2, 3, 4], []),
        ([5, 9], []),
        ([7], []),
        # Times of day have no step, so nothing can be missing.
        ([101500, 101733, 102001, 102240], []),
    ],
)
def test_gaps(numbers, said):
    assert number_notices([f"s{number}.tif" for number in numbers]) == said


def test_the_first_number_that_changes_counts():
    names = [f"run2_slice{z}_z={z * 7}nm.tif" for z in (1, 2, 3, 5)]
    assert number_notices(names) == [f"Slice 4 is missing between {names[2]} and {names[3]}"]


def test_a_number_that_stands_twice():
    names = ["s1.png", "s2.png", "s2.tif", "s3.png"]
    assert number_notices(names) == ["s2.png and s2.tif have the same number"]


def test_names_without_numbers_or_of_different_kinds_tell_nothing():
    assert number_notices(["left.tif", "right.tif"]) == []
    assert number_notices(["a1.tif", "a2.tif", "a9_b1.tif"]) == []


def test_many_gaps_are_summed_up():
    numbers = [n for n in range(100) if n % 10]
    said = number_notices([f"{n}.tif" for n in numbers])
    assert len(said) == 6
    assert said[-1] == "Of such gaps there are 4 more"
