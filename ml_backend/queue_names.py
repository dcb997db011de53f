"""What Label Studio knows a queue by: the model version of the predictions that order it.

A queue is a version's masks, scored by one query strategy: ``0007-20261122T101530 (entropy)``. It
has predictions of its own, so that a new one neither changes nor removes what an expert has open:
Label Studio refuses an annotation that began as a prediction which is gone.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from biosegment.labelstudio.payloads import UNTRAINED
from ml_backend.model_card import ModelCard

KEPT: Final = timedelta(hours=24)
"""How long the queues of a version stay after it stopped serving: a page left open overnight can
still be submitted. A version's 2,000 masks take some 6 MB of Label Studio's database for tiles of
256 px, and up to four times that for tiles of 512 px."""


def queue_name(version: str, strategy: str) -> str:
    """Return the name of the queue of a version's masks in the order of a query strategy.

    No name is part of another one, as `LabelStudioClient.predicted_tasks` asks for.
    """
    return f"{version} ({strategy})"


def outdated(
    names: Iterable[str], serving: str, cards: Sequence[ModelCard], now: datetime
) -> list[str]:
    """Return the queues of versions that stopped serving more than `KEPT` ago.

    Parameters
    ----------
    names
        Of all queues of a project. What is none of ours, such as predictions that somebody
        imported, is never outdated.
    serving
        The version that serves; its queues are never outdated, whatever strategy scored them.
    cards
        Of all versions of the project. A version stops serving when the next one is saved, or
        some minutes later.
    now
        With a time zone.
    """
    saved = [
        _number(card.version)
        for card in cards
        if datetime.fromisoformat(card.created) <= now - KEPT
    ]
    oldest = max((number for number in saved if number <= _number(serving)), default=0)
    return [name for name in names if 0 <= _number(name) < oldest]


def _number(name: str) -> int:
    """Return the number of the version that a name begins with; 0 before the first, -1 of none."""
    found = re.match(r"(\d{4,})-\d{8}T\d{6}( |$)", name)
    return int(found[1]) if found else 0 if name == UNTRAINED else -1
