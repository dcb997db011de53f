"""What the machine at hand computes on, and in which precision."""

import ctypes
import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, ParamSpec

import psutil
import torch

P = ParamSpec("P")
logger = logging.getLogger(__name__)

LOOK_AGAIN_S: Final = 15.0
"""After less, a page that somebody opens would look like a core that is taken."""
_FIRST_LOOK_S: Final = 0.5

# Numbers of malloc.h.
_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
_ARENA_MAX: Final = -8
_MOST: Final = 2**31 - 1


def keep_memory() -> None:
    """Let this process keep large buffers after their use, where the C library is glibc.

    It would return them to the kernel each time, and a network wants them again at once: with this,
    prediction on two cores was measured 1.5 times as fast. Call it before threads start: those that
    run already have a heap of their own, which keeps no buffer above 64 MB.
    """
    if sys.platform == "linux":
        # Other C libraries lack the function.
        with suppress(OSError, AttributeError):
            library = ctypes.CDLL(None)
            library.mallopt(_MMAP_THRESHOLD, _MOST)
            library.mallopt(_TRIM_THRESHOLD, _MOST)
            library.mallopt(_ARENA_MAX, 1)


def on_free_cores(report: Callable[P, None]) -> Callable[P, None]:
    """Let torch compute on as many cores as others leave idle, at least on one.

    Threads that outnumber the free cores wait for each other at every layer: on two cores with
    other load, two threads were measured to take 10 times as long for a training step as one. What
    is free changes while a network trains: it is looked at again as progress is reported.

    Parameters
    ----------
    report
        What work reports its progress to.

    Returns
    -------
    Callable
        What it is to report to instead, from the thread that computes.
    """
    free = _FreeCores()

    def reported(*args: P.args, **kwargs: P.kwargs) -> None:
        free.look_again()
        report(*args, **kwargs)

    return reported


class _FreeCores:
    """As many threads of torch as there are cores that other processes leave idle."""

    def __init__(self) -> None:
        self._cores = psutil.cpu_count() or 1
        self._process = psutil.Process()
        self._threads = 0
        self._others()
        time.sleep(_FIRST_LOOK_S)
        self._look()

    def look_again(self) -> None:
        if time.monotonic() - self._looked >= LOOK_AGAIN_S:
            self._look()

    def _look(self) -> None:
        self._looked = time.monotonic()
        threads = min(self._cores, max(1, round(self._cores - self._others())))
        if threads != self._threads:
            self._threads = threads
            torch.set_num_threads(threads)
            logger.info("computing on %d of %d cores", threads, self._cores)

    def _others(self) -> float:
        """Return how many cores other processes used since this was last asked."""
        all_of_them = float(psutil.cpu_percent()) * self._cores
        return (all_of_them - float(self._process.cpu_percent())) / 100


def best_device() -> torch.device:
    """Return the first CUDA device when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Return the name of the GPU that `best_device` is, empty where it is the CPU."""
    device = best_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""


def has_bfloat16(device: torch.device) -> bool:
    """Return whether `device` has bfloat16 arithmetic of its own; emulated, it is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    instructions = torch.cpu.get_capabilities()
    return any(instructions.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
