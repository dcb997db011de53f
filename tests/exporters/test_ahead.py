import threading

import pytest

from exporters.ahead import ahead


def test_the_next_item_is_made_while_one_is_used():
    made = threading.Semaphore(0)

    def items():
        for number in range(3):
            yield number
            made.release()

    for number in ahead(items()):
        # Would wait for ever if the next were made only when asked for.
        assert made.acquire(timeout=60), number


def test_errors_come_where_the_item_would():
    def items():
        yield 1
        raise OSError(28, "full")

    coming = ahead(items())
    assert next(coming) == 1
    with pytest.raises(OSError, match="full"):
        next(coming)


def test_who_stops_early_leaves_no_thread():
    coming = ahead(iter(range(5)))
    next(coming)
    coming.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]
