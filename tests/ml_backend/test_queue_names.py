from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from biosegment.labelstudio.payloads import UNTRAINED
from ml_backend.queue_names import KEPT, outdated, queue_name

KEPT_H = KEPT / timedelta(hours=1)
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


@pytest.fixture
def cards(serve, registry):
    """Make versions 1, 2, ... that were saved so many hours before `NOW`."""

    def make(*ages_h):
        for _ in ages_h:
            serve(1)
        return [
            replace(card, created=(NOW - timedelta(hours=age_h)).isoformat())
            for card, age_h in zip(registry.cards(1), ages_h, strict=True)
        ]

    return make


def names(cards):
    return [UNTRAINED, *(queue_name(card.version, "entropy") for card in cards)]


def test_a_queue_goes_some_time_after_the_next_version_was_saved(cards):
    found = cards(KEPT_H + 10, KEPT_H + 1, 2, 1)
    every = names(found)
    assert outdated(every, found[-1].version, found, NOW) == every[:2]
    assert outdated(every, found[-1].version, found, NOW + timedelta(days=9)) == every[:4]


def test_a_version_that_served_for_long_does_not_go_with_its_successor(cards):
    found = cards(200, 0)
    assert outdated(names(found), found[1].version, found, NOW) == [UNTRAINED]


def test_before_the_first_version_nothing_goes(cards):
    found = cards(1)
    assert outdated([UNTRAINED], found[0].version, found, NOW) == []


def test_no_queue_of_the_serving_version_goes(cards):
    """Not even when a later version was saved, but never served."""
    found = cards(300, 200, 100)
    serving = found[1].version
    queues = [queue_name(serving, strategy) for strategy in ("entropy", "random")]
    first = queue_name(found[0].version, "clue")
    assert outdated([*queues, first], serving, found, NOW) == [first]


def test_versions_without_a_card_go_and_what_is_not_ours_stays(cards):
    found = cards(300, 200, 100)
    gone = queue_name(found[0].version, "entropy")
    old_form = found[1].version
    elsewhere = ["cellpose", "", "0001", "0001-20261122T101530x", "undefined"]
    every = [gone, old_form, *elsewhere]
    assert outdated(every, found[2].version, found[1:], NOW) == [gone, old_form]
