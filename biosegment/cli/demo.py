"""``biosegment demo``: the stack with a sample project, and an expert who plays himself."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biosegment import stack
from biosegment.cli.console import console, progress_bar
from biosegment.cli.importing import import_and_show, volume_name
from biosegment.cli.up import BackendPort, Port, introduce, running_stack
from biosegment.errors import SampleError, SettingsError
from biosegment.geometry import Roi
from biosegment.store import VolumeStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from importers.project import ImportedProject
    from importers.samples import SampleFiles

LABEL = "mitochondria"
TRUTH = "truth"
"""Name of the label image that holds the sample's ground truth."""


def demo(
    sample: Annotated[
        str, typer.Option(help="vnc, synthetic, or a stack of yours.", metavar="vnc|synthetic|PATH")
    ] = "vnc",
    truth: Annotated[
        Path | None, typer.Option(help="Mask of the mitochondria in your stack, to simulate with.")
    ] = None,
    simulate: Annotated[
        int, typer.Option(min=0, help="Play the expert for this many tasks.", metavar="LABELS")
    ] = 0,
    leave: Annotated[bool, typer.Option("--exit", help="Stop the stack at the end.")] = False,
    strategy: Annotated[str | None, typer.Option(help="How the queue is ordered.")] = None,
    retrain_every: Annotated[
        int | None, typer.Option(min=1, help="Annotations after which a training starts.")
    ] = None,
    port: Port = 8080,
    backend_port: BackendPort = 9090,
) -> None:
    """Start everything with a sample project, and say what to do next.

    The project offers one half of the sample, along y. The other half is never labelled:
    --simulate measures on it.
    """
    if simulate and truth is None and sample not in {"vnc", "synthetic"}:
        raise SettingsError("--simulate", "needs the mask of your stack: add --truth MASK")

    with running_stack(port, backend_port) as (local, running):
        files = _sample_files(sample, truth, local.settings.data_root)
        options = {"strategy": strategy, "retrain_every": retrain_every}
        imported = _import(files, local, options)
        introduce(local)
        if simulate:
            _simulate(simulate, imported, local)
        else:
            console.print(
                "Next: log in, open the project, press [bold]Label All Tasks[/], paint what you "
                f"see and submit. After every {imported.options.retrain_every} tasks the model "
                "learns, and the next task is the one it is least sure of."
            )
        if not leave:
            running.wait()


def _sample_files(sample: str, truth: Path | None, data_root: Path) -> "SampleFiles":
    from importers.samples import SampleFiles, vnc_sample, write_synthetic

    if sample not in {"vnc", "synthetic"}:
        return SampleFiles(volume_name(Path(sample)), Path(sample), truth)
    folder = data_root / "samples"
    if sample == "vnc":
        local = os.environ.get("BIOSEGMENT_TEST_DATA")
        try:
            with progress_bar() as report:
                return vnc_sample(
                    folder, Path(local) / "vnc" if local else None, partial(report, "downloading")
                )
        except SampleError as exc:
            console.print(f"{exc} A synthetic volume takes its place.")
    return write_synthetic(folder)


def first_half(shape: "Sequence[int]") -> Roi:
    """Return the half along y that is labelled; the other one measures (the paper's split)."""
    depth, height, width = shape
    return Roi(0, 0, 0, depth, max(1, height // 2), width)


def second_half(shape: "Sequence[int]") -> Roi:
    """Return the half along y that is never labelled."""
    depth, height, width = shape
    return Roi(0, height // 2, 0, depth, height - height // 2, width)


def _import(
    files: "SampleFiles", local: stack.Stack, options: "Mapping[str, Any]"
) -> "ImportedProject":
    from importers.convert import import_labels
    from importers.pool import PoolPlan
    from importers.project import ProjectPlan

    plan = ProjectPlan(
        title=f"Demo: {files.name}"[:50],
        labels=[LABEL],
        volume=files.name,
        pool=PoolPlan(region=first_half),
        options=options,
    )
    imported = import_and_show(files.raw, plan, local.settings)
    if files.labels is not None:
        with progress_bar() as report:
            import_labels(
                files.labels,
                imported.store,
                TRUTH,
                [LABEL],
                partial(report, "importing ground truth"),
            )
    return imported


def _simulate(budget: int, imported: "ImportedProject", local: stack.Stack) -> None:
    from biosegment.cli.simulation import Project, SimulatedExpert
    from biosegment.labelstudio.client import LabelStudioClient
    from ml_backend.model_registry import ModelRegistry

    store = VolumeStore.open(local.settings.data_root, imported.store.name)
    plot = local.settings.data_root / "demo" / f"learning-curve-{store.name}.png"
    with LabelStudioClient(local.settings) as client:
        registry = ModelRegistry.of(local.settings)
        test = second_half(store.shape)
        project = Project(imported.project_id, imported.options, store, TRUTH, test)
        SimulatedExpert(client, registry, project).play(budget, plot)
    if store.name == "synthetic":
        console.print("The volume is synthetic: these figures say nothing about real data.")
