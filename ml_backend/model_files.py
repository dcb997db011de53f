"""How the versions of a project lie in a folder, or in a storage: names, sizes, order."""

import re
from pathlib import Path
from typing import Final

VERSION: Final = re.compile(r"(\d{4,})-\d{8}T\d{6}")
"""The form of a version's name, which is that of its folder."""
WEIGHTS: Final = "weights.safetensors"
CARD: Final = "card.json"
CURRENT: Final = "current"
"""File beside the versions: the one that serves."""
RANKING: Final = "ranking"
"""File beside them: a version, and the strategy of the queue that it serves."""
RECIPE: Final = "recipe.json"
MAX_CARD_BYTES: Final = 2**26
"""A card lists all annotations: some hundred bytes each."""
MAX_WEIGHTS_BYTES: Final = 2**33


def number(version: str) -> int:
    """Return the number that a version's name begins with."""
    return int(version.partition("-")[0])


def order(version: str) -> tuple[int, str]:
    """Return by what versions are sorted, oldest first."""
    return number(version), version


def is_complete(folder: Path) -> bool:
    """Tell whether the folder of a version has all that one has."""
    return (folder / WEIGHTS).is_file() and (folder / CARD).is_file()
