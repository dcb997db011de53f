"""``biosegment segment``."""

import os
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biosegment.cli.console import console, progress_bar
from biosegment.cli.exporting import write_volume
from biosegment.cli.model_name import find_model
from biosegment.cli.watch import watch
from biosegment.errors import NoWorkerError, SegmentationError, SettingsError
from biosegment.settings import Settings
from biosegment.stack import connection
from biosegment.store import VolumeStore

if TYPE_CHECKING:
    from biosegment.unfinished_labels import UnfinishedLabels
    from ml_backend.segmentation import Segmentation
    from ml_backend.segmentation_job import Order


def segment(
    volume: Annotated[str, typer.Argument(help="Name of a volume in the data folder.")],
    model: Annotated[str, typer.Option(help="PROJECT, by title or number, or PROJECT@VERSION.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the labels; that of the model if left out.")
    ] = None,
    flips: Annotated[
        bool,
        typer.Option("--flips", help="Average over flips: a little better, four times slower."),
    ] = False,
    three_axes: Annotated[
        bool,
        typer.Option(
            "--three-axes",
            help="Average over planes along z, y and x, if voxels are cubes; three times slower.",
        ),
    ] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Keep how undecided the model is, too.")
    ] = False,
    probabilities: Annotated[
        bool, typer.Option("--probabilities", help="Keep the probability of each class, too.")
    ] = False,
    worker: Annotated[
        bool, typer.Option("--worker", help="Let a worker do it, between trainings.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes on this machine that share the work.")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler whose workers do it.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to write the labels into as well."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="Format of what --out writes, as of `biosegment export`.",
            show_default="ome_zarr",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace finished labels of that name.")
    ] = False,
) -> None:
    """Segment a whole volume by a trained model.

    The labels are kept with the volume, and `biosegment export` writes them for other programs. The
    same command goes on after an interruption, and shows what a worker is at.
    """
    from ml_backend.model_registry import ModelRegistry
    from ml_backend.segmentation import Segmentation, SegmentationPlan, labels_name
    from ml_backend.segmentation_job import Order

    if (workers is not None) + (scheduler is not None) + worker > 1:
        raise SettingsError("--worker", "--workers and --scheduler exclude each other")
    if out is None and format is not None:
        raise SettingsError("--format", "goes with --out")
    settings = Settings.from_env(connection(os.environ))
    store = VolumeStore.open(settings.data_root, volume)
    format = format or "ome_zarr"
    if out is not None:
        _check_out(out, store, format, overwrite=overwrite)
    registry = ModelRegistry.of(settings)
    project_id, version = find_model(model, settings, registry, "--model")
    plan = SegmentationPlan(
        project_id,
        version,
        flips=flips,
        uncertainty=uncertainty,
        probabilities=probabilities,
        three_axes=three_axes,
    )
    segmentation = Segmentation(store, registry, plan)
    order = Order(volume, name or labels_name(plan), plan, overwrite)
    if worker:
        _on_worker(settings, order)
    else:
        with segmentation.begin(order.name, overwrite=overwrite) as labels:
            _here(segmentation, labels, workers, scheduler)
    console.print(
        f"Labels {order.name!r} of the volume {volume!r} ({', '.join(segmentation.class_names)}): "
        f"{store.path / 'labels' / order.name}",
        markup=False,
        soft_wrap=True,
    )
    for each in segmentation.maps:
        console.print(f"  with the map {each}", markup=False)
    if out is not None:
        from exporters.volume import VolumePlan

        files = VolumePlan(volume, format, image=False, labels=order.name, force=overwrite)
        write_volume(files, out, settings)


def _check_out(out: Path, store: VolumeStore, format: str, *, overwrite: bool) -> None:
    """Raise SettingsError where nothing can be written, before hours of work."""
    from exporters.volume import check_folder
    from exporters.write import writer_named

    writer = writer_named(format)
    check_folder(out, writer, store)
    path = out / f"{store.name}_labels{writer.LABELS_SUFFIX}"
    if path.exists() and not overwrite:
        raise SettingsError("--out", f"has {path.name} already, which --overwrite replaces")


def _here(
    segmentation: "Segmentation",
    labels: "UnfinishedLabels",
    workers: int | None,
    scheduler: str | None,
) -> None:
    """Do it in this process, or by Dask's workers."""
    with progress_bar() as report:
        progress = partial(report, "segmenting")
        if workers is None and scheduler is None:
            from ml_backend.hardware import keep_memory

            keep_memory()
            segmentation.run(labels, progress)
            return

        from ml_backend.segmentation_cluster import cluster, run_on

        with cluster(workers, scheduler) as client:
            run_on(client, segmentation, labels, progress)


def _on_worker(settings: Settings, order: "Order") -> None:
    """Let a worker do it, and watch."""
    from ml_backend.jobs import JobQueue, connect

    jobs = JobQueue(connect(settings, timeout_s=5))
    if not jobs.has_worker():
        raise NoWorkerError(jobs.address)
    job_id = jobs.request_segmentation(asdict(order))
    watch(jobs, job_id, lambda reason: SegmentationError(order.volume, reason))
