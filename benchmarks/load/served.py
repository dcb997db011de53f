"""What the measurements of load share: a volume, a model that needs no training, a served stack."""

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import numpy as np
import psutil
import torch

from benchmarks.ports import free_port
from biosegment.geometry import Roi
from biosegment.labelstudio.connection import authorization_header
from biosegment.settings import LoopOptions, Settings
from biosegment.stack import Stack, prepare
from biosegment.store import VolumeStore, volume_path
from biosegment.supervisor import commands_of, environment_of
from biosegment.tiles import Tile
from importers.synthetic import synthetic_volume
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.model_card import ModelCard
from ml_backend.model_registry import ModelRegistry
from ml_backend.training import TrainedModel, TrainingSpec

VOLUME = "tissue"
LABEL = "mitochondria"
CLASSES = ("background", LABEL)


def new_stack(folder: Path, options: LoopOptions) -> Stack:
    """Return a stack on an empty folder and free ports."""
    return prepare(Settings(data_root=folder / "data", loop=options), free_port(), free_port())


def make_volume(data_root: Path, shape: Sequence[int]) -> None:
    """Write a made-up volume into the store."""
    path = volume_path(data_root, VOLUME)
    path.parent.mkdir(parents=True, exist_ok=True)
    store = VolumeStore.create(path, tuple(shape), np.uint8)
    store.write(Roi.whole(shape), synthetic_volume(tuple(shape))[0])
    store.finish((0.0, 255.0), {})


def tiles(shape: Sequence[int], side: int, count: int) -> list[Tile]:
    """Return that many tiles, overlapping as far as they must."""
    for step in (side, side // 2, side // 4, side // 8, 1):
        found = [
            Tile(VOLUME, z, y, x, side, side)
            for z in range(shape[0])
            for y in range(0, shape[1] - side + 1, max(1, step))
            for x in range(0, shape[2] - side + 1, max(1, step))
        ]
        if len(found) >= count:
            return found[:count]
    raise ValueError(f"A volume of {shape} does not have {count} tiles of {side} pixels.")


def serve_model(data_root: Path, project_id: int, strategy: str) -> str:
    """Let a network of the default size with random weights serve a project."""
    torch.manual_seed(project_id)
    network = UNet(UNetSpec(len(CLASSES))).eval()
    trained = TrainedModel(network, TrainingSpec(CLASSES), 1, {})
    card = ModelCard.of(
        trained, strategy=strategy, annotations={}, left_out={}, lead_time_s=0.0, parent=None
    )
    registry = ModelRegistry(data_root)
    version = registry.next_version(project_id)
    registry.save(project_id, version, network, card)
    registry.promote(project_id, version)
    return version


@contextmanager
def only(stack: Stack, *names: str) -> Iterator[dict[str, psutil.Process]]:
    """Run some of the stack's processes, without a supervisor, for as long as the block lasts."""
    stack.sockets.mkdir(mode=0o700, exist_ok=True)
    environment = {**os.environ, **environment_of(stack)}
    started: dict[str, psutil.Popen] = {}
    try:
        for name in names:
            with (stack.folder / "logs" / f"{name}.log").open("ab") as log:
                started[name] = psutil.Popen(
                    commands_of(stack)[name], env=environment, stdout=log, stderr=subprocess.STDOUT
                )
        yield started
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait()


def answers(url: str) -> bool:
    """Return whether a service is up."""
    with suppress(httpx.HTTPError):
        return httpx.get(f"{url}/health", timeout=2).is_success
    return False


def time_status_page(settings: Settings) -> None:
    """Print how long the status page takes, which a browser asks for every 5 s."""
    with httpx.Client(headers=authorization_header(settings), timeout=600) as http:
        seconds = []
        for _ in range(5):
            began = time.monotonic()
            http.get(settings.backend_url).raise_for_status()
            seconds.append(time.monotonic() - began)
    first, again = seconds[0], float(np.median(seconds[1:]))
    print(f"status page: {first:.2f} s, then {again:.2f} s", flush=True)
