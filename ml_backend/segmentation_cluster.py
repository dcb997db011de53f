"""A segmentation carried out by Dask workers: on this machine, or those of a scheduler elsewhere.

Workers read and write the volume themselves, so they have to see the data root under the same path.
What a lost worker was at is done by another one. Whoever reaches a Dask scheduler can run code on
its workers: keep it in a closed network, or use TLS (Dask's settings ``distributed.comm``).

References
----------
.. [1] https://distributed.dask.org/en/stable/
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import dask
import torch
from distributed import Client, LocalCluster, as_completed

from biosegment.errors import ClusterError
from biosegment.progress import Progress
from biosegment.store import VolumeStore
from biosegment.unfinished_labels import UnfinishedLabels
from ml_backend.hardware import keep_memory
from ml_backend.model_registry import ModelRegistry
from ml_backend.segmentation import Segmentation, SegmentationPlan

RETRIES: Final = 3
"""How often a part is tried again after an error; Dask itself repeats what lost workers were at."""
CONNECT_S: Final = 10
# Workers compute in threads, and those are running when `keep_memory` could tell them.
_ARENAS: Final = "distributed.nanny.pre-spawn-environ.MALLOC_ARENA_MAX"


@contextmanager
def cluster(workers: int | None, scheduler: str | None) -> Iterator[Client]:
    """Lend a client of so many worker processes on this machine, or of a scheduler elsewhere.

    Raises
    ------
    ClusterError
        If nothing answers at the scheduler's address.
    """
    if scheduler is None:
        # Any free port: at the usual one, a second cluster on this machine would complain.
        address = "127.0.0.1:0"
        options = {"threads_per_worker": 1, "processes": True, "dashboard_address": address}
        with (
            dask.config.set({_ARENAS: 1}),
            LocalCluster(n_workers=workers, **options) as local,
            Client(local) as client,
        ):
            yield client
        return
    try:
        client = Client(scheduler, timeout=CONNECT_S)
    except (OSError, ValueError) as exc:
        raise ClusterError(scheduler, f"nothing answers there ({exc})") from exc
    with client:
        if not client.scheduler_info()["workers"]:
            raise ClusterError(scheduler, "it has no workers; start some with `dask worker`")
        yield client


def run_on(
    client: Client,
    segmentation: Segmentation,
    labels: UnfinishedLabels,
    progress: Progress,
    threads: int | None = None,
) -> None:
    """Make all units that are missing on the workers of a cluster, then finish.

    Parameters
    ----------
    client
        From `cluster`.
    segmentation
        What is to be made.
    labels
        From its `begin`.
    progress
        Told how much is done and in all.
    threads
        Of each worker; its share of the cores of this machine if left out.

    Raises
    ------
    ClusterError
        If a worker does not see the volume or the model, or the disk is full there. What is done
        is kept.
    """
    missing = labels.missing()
    tell = segmentation.progress_of(missing, progress)
    data_root = segmentation.store.path.parents[1]
    work = (str(data_root.resolve()), labels.store.name, labels.name, asdict(segmentation.plan))
    workers = len(client.scheduler_info()["workers"])
    threads = threads or max(1, (os.cpu_count() or 1) // max(1, workers))
    for stage in segmentation.stages:
        units = [unit for unit in missing if unit in stage]
        futures = client.map(_make, units, work=work, threads=threads, pure=False, retries=RETRIES)
        try:
            for future in as_completed(futures):
                try:
                    unit = future.result()
                except Exception as exc:
                    raise ClusterError(client.scheduler.address, f"a worker failed: {exc}") from exc
                labels.mark(unit)
                tell(unit)
        finally:
            client.cancel(futures)
    labels.finish()


def _make(unit: int, work: tuple[str, str, str, dict[str, Any]], threads: int) -> int:
    """Make a unit: what a worker does."""
    data_root, volume, name, fields = work
    torch.set_num_threads(threads)
    segmentation = _segmentation(data_root, volume, SegmentationPlan(**fields))
    return next(segmentation.make(name, [unit]))


@lru_cache(maxsize=2)
def _segmentation(data_root: str, volume: str, plan: SegmentationPlan) -> Segmentation:
    keep_memory()
    store = VolumeStore.open(Path(data_root), volume)
    return Segmentation(store, ModelRegistry(Path(data_root)), plan)
