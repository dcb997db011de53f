"""What the numbers in the names of slices tell: which are missing, which are there twice."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

_MOST_NOTICES = 5


def number_notices(names: Sequence[str]) -> list[str]:
    """Return a sentence for each gap in the numbering, and for each number that stands twice.

    The first number that changes from name to name counts. Its usual step may be more than 1;
    where there is none, as with times of day, nothing is said of gaps.

    Parameters
    ----------
    names
        File names in the order of the slices.

    Examples
    --------
    >>> number_notices(["s1.tif", "s2.tif", "s3.tif", "s6.tif"])
    ['Slices 4 to 5 are missing between s3.tif and s6.tif']
    """
    numbers = _changing_numbers(names)
    steps = [after - before for before, after in pairwise(numbers)]
    usual, times = Counter(steps).most_common(1)[0] if steps else (1, 0)
    regular = usual > 0 and 2 * times > len(steps)
    found = []
    for (first, second), before, step in zip(pairwise(names), numbers, steps, strict=False):
        if step == 0:
            found.append(f"{first} and {second} have the same number")
        elif regular and step > usual:
            found.append(f"{_missing(before, step, usual)} missing between {first} and {second}")
    left = len(found) - _MOST_NOTICES
    return [*found[:_MOST_NOTICES], f"Of such gaps there are {left} more"] if left > 0 else found


def _changing_numbers(names: Sequence[str]) -> list[int]:
    """Return the first number of each name that is not the same in all; none if they differ."""
    rows = [list(map(int, re.findall(r"\d+", name.rpartition(".")[0]))) for name in names]
    if len({len(row) for row in rows}) != 1:
        return []
    columns = (list(column) for column in zip(*rows, strict=True))
    return next((column for column in columns if len(set(column)) > 1), [])


def _missing(before: int, step: int, usual: int) -> str:
    first, last = before + usual, before + step - 1
    last -= (last - first) % usual
    return f"Slice {first} is" if first >= last else f"Slices {first} to {last} are"
