"""What a piece of work takes: time, and memory of the process that does it."""

import time
from collections.abc import Callable
from pathlib import Path


def seconds(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def own_peak_mb() -> float:
    """Return the peak resident memory of this process so far, MB."""
    # Unlike getrusage, this does not start from what the parent process had.
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024
