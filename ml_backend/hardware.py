"""What the machine at hand computes on, and in which precision."""

import logging

import psutil
import torch

logger = logging.getLogger(__name__)


def use_free_cores() -> None:
    """Let torch compute on as many cores as others leave idle at the moment, at least on one.

    Threads that outnumber the free cores wait for each other at every layer: on two cores with
    other load, two threads were measured to take 10 times as long for a training step as one.
    """
    cores = psutil.cpu_count() or 1
    busy = psutil.cpu_percent(interval=0.5) / 100
    threads = max(1, round(cores * (1 - busy)))
    torch.set_num_threads(threads)
    logger.info("computing on %d of %d cores", threads, cores)


def best_device() -> torch.device:
    """Return the first CUDA device when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def has_bfloat16(device: torch.device) -> bool:
    """Return whether `device` has bfloat16 arithmetic of its own; emulated, it is slower."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    instructions = torch.cpu.get_capabilities()
    return any(instructions.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
