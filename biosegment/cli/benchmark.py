"""``biosegment benchmark``: simulated active learning on a labelled volume."""

import json
import os
import platform
import signal
from contextlib import closing
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from biosegment.cli.console import console, folding_table, progress_bar
from biosegment.cli.demo import first_half, second_half
from biosegment.cli.importing import volume_name
from biosegment.disk import explain_full_disk, write_atomically
from biosegment.errors import (
    ExperimentExistsError,
    LabelsMismatchError,
    SettingsError,
    UnreadableFileError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.table import Table

    from ml_backend.experiment import GroundTruth, Protocol, Run
    from ml_backend.experiment_report import Summary
    from ml_backend.experiment_runs import Experiment

CLASSES: Final = ("background", "foreground")
COMPARED: Final = ("data", "protocol", "training")
"""Settings without which results in one folder cannot be compared."""
VERSIONS: Final = ("biosegment", "torch", "pytorch-lightning", "monai", "numpy")


def benchmark(
    raw: Annotated[Path, typer.Argument(help="A volume file, or a folder of slices.")],
    labels: Annotated[Path, typer.Argument(help="Its ground truth: above 0 is foreground.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    protocol: Annotated[
        str, typer.Option(help="quick for CPU cores, paper for a GPU.", metavar="quick|paper")
    ] = "quick",
    strategies: Annotated[
        str, typer.Option(help="Strategies to compare, separated by commas.")
    ] = "random,entropy",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each strategy.")] = 3,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; one a core, or one on a GPU.")
    ] = None,
    ceilings: Annotated[
        bool, typer.Option(help="Train on all tiles of the pool, too, to compare with.")
    ] = True,
    budget: Annotated[
        int | None, typer.Option(min=1, help="Labelled tiles at the end.", metavar="LABELS")
    ] = None,
    pool: Annotated[int | None, typer.Option(min=2, help="Tiles to choose from.")] = None,
    tile: Annotated[int | None, typer.Option(min=16, help="Side of a tile in pixels.")] = None,
    effort: Annotated[
        float, typer.Option(min=0.001, help="Multiplies the steps of every training.")
    ] = 1.0,
) -> None:
    """Compare query strategies on a labelled volume: ground truth plays the expert.

    Tiles of one half of the volume, along y, are labelled; quality is measured on the other. The
    same command takes up where it was interrupted; other strategies and more seeds add to it.
    """
    from ml_backend.experiment import CEILINGS, Run
    from ml_backend.experiment_runs import Experiment
    from ml_backend.strategies import strategy_named
    from ml_backend.training import TrainingSpec

    names = list(dict.fromkeys(name.strip() for name in strategies.split(",")))
    for name in names:
        strategy_named(name)
    simulated = _protocol(protocol)
    simulated = replace(
        simulated,
        labels=budget or simulated.labels,
        pool=pool or simulated.pool,
        tile_px=tile or simulated.tile_px,
    )
    spec = TrainingSpec(classes=CLASSES, effort=effort)
    runs = [
        Run(name, seed)
        for seed in range(seeds)
        for name in (*names, *(CEILINGS if ceilings else ()))
    ]
    truth, data = read_ground_truth(raw, labels)
    _check_pool(truth, simulated)
    jobs, threads = _share_cores(jobs, len(runs))
    settings = {
        "data": data,
        "protocol": asdict(simulated),
        "training": asdict(spec),
        "runs": {"strategies": names, "seeds": seeds, "ceilings": ceilings},
        "machine": _machine(jobs, threads),
        "versions": {name: version(name) for name in VERSIONS}
        | {"python": platform.python_version()},
    }
    _write_settings(out, settings)
    experiment = Experiment(out, truth, simulated, spec)
    _carry_out(experiment, runs, jobs, threads)
    _show(experiment, raw)


def _protocol(name: str) -> "Protocol":
    from ml_backend.experiment import PROTOCOLS

    if name not in PROTOCOLS:
        raise SettingsError("--protocol", f"is {' or '.join(PROTOCOLS)}, not {name}")
    return PROTOCOLS[name]


def read_ground_truth(raw: Path, labels: Path) -> "tuple[GroundTruth, dict[str, str]]":
    """Return a volume with its labels, seen as the importer sees it, and what identifies them.

    Raises
    ------
    SourceNotFoundError, UnsupportedFormatError, UnreadableFileError
        As :func:`importers.detect.open_volume`.
    LabelsMismatchError
        If the labels are of another shape, or have no foreground in one of the halves.
    DiskFullError
        If the disk has no room for a copy while it is read.
    """
    from biosegment.geometry import Roi
    from importers.convert import import_labels, import_volume
    from ml_backend.experiment import GroundTruth

    with TemporaryDirectory() as folder:
        store = import_volume(raw, Path(folder), volume_name(raw))
        import_labels(labels, store, "truth", CLASSES[1:])
        whole = Roi.whole(store.shape)
        images, masks = store.read_unit(whole), store.read_labels("truth", whole)
        data = {
            "raw": str(raw),
            "raw_fingerprint": store.source["fingerprint"],
            "labels": str(labels),
            "labels_fingerprint": store.labels_source("truth")["fingerprint"],
        }
    if store.shape[1] < 2:
        raise UnreadableFileError(str(raw), "a single row cannot be split into halves")
    truth = GroundTruth(
        images, masks, first_half(store.shape), second_half(store.shape), store.voxel_size
    )
    for half, what in ((truth.training, "labelled"), (truth.test, "measured on")):
        if not masks[half.slices].any():
            raise LabelsMismatchError(str(labels), f"the half that is {what} has no foreground")
    return truth, data


def _check_pool(truth: "GroundTruth", protocol: "Protocol") -> None:
    found = len(truth.pool(protocol, seed=0))
    if found < protocol.labels:
        reason = f"asks for {protocol.labels} labelled tiles, and the pool has {found}"
        raise SettingsError("--budget", reason)


def _share_cores(jobs: int | None, runs: int) -> tuple[int, int]:
    """Return the processes at a time, and the threads of each."""
    from ml_backend.hardware import best_device

    cores = os.cpu_count() or 1
    if jobs is None:
        jobs = 1 if best_device().type == "cuda" else cores
    jobs = min(jobs, runs)
    return jobs, max(1, cores // jobs)


def _machine(jobs: int, threads: int) -> dict[str, Any]:
    import torch

    from ml_backend.hardware import best_device

    device = best_device()
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {"device": f"{device.type}: {name}", "jobs": jobs, "threads": threads}


def _write_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Write settings.json, unless the folder holds results that are not comparable."""
    path = folder / "settings.json"
    # As it comes back from the file: lists, no tuples.
    settings = json.loads(json.dumps(settings))
    if path.exists():
        try:
            before = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as exc:
            raise UnreadableFileError(str(path), f"it is no JSON ({exc})") from exc
        differing = _differences(before, settings)
        if differing:
            raise ExperimentExistsError(str(folder), ", ".join(differing))
        settings = settings | {"runs": _all_runs(before["runs"], settings["runs"])}
    with explain_full_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(settings, indent=2).encode())


def _all_runs(before: "Mapping[str, Any]", now: "Mapping[str, Any]") -> dict[str, Any]:
    """Return what was asked for in a folder by all commands together."""
    return {
        "strategies": list(dict.fromkeys([*before["strategies"], *now["strategies"]])),
        "seeds": max(before["seeds"], now["seeds"]),
        "ceilings": before["ceilings"] or now["ceilings"],
    }


def _differences(before: "Mapping[str, Any]", now: "Mapping[str, Any]") -> list[str]:
    # A copy of the same files may lie elsewhere: their fingerprints tell.
    return [
        f"{name}: {before.get(group, {}).get(name)} there, {value} here"
        for group in COMPARED
        for name, value in now[group].items()
        if name not in {"raw", "labels"} or group != "data"
        if before.get(group, {}).get(name) != value
    ]


def _carry_out(experiment: "Experiment", runs: "Sequence[Run]", jobs: int, threads: int) -> None:
    from ml_backend.experiment import is_complete
    from ml_backend.experiment_runs import carry_out

    # Ends as by Ctrl-C: with its processes.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    known = experiment.results()
    done = sum(is_complete(run, known.get(run, ()), experiment.protocol) for run in runs)
    rounds = carry_out(experiment, runs, jobs, threads)
    with closing(rounds), progress_bar() as report:
        report("runs", done, len(runs))
        for run, last in rounds:
            seconds = last.train_s + last.rank_s
            console.print(f"{run}: {last.labels} labels, IoU {last.iou:.3f}, {seconds:.0f} s")
            done += is_complete(run, (last,), experiment.protocol)
            report("runs", done, len(runs))


def _show(experiment: "Experiment", raw: Path) -> None:
    from ml_backend.experiment_report import curves, curves_figure, summaries

    found = curves(experiment.results(), experiment.protocol)
    console.print(_table(summaries(found)))
    plot = experiment.folder / "curves.png"
    with explain_full_disk(experiment.folder):
        curves_figure(found, raw.name).savefig(plot, dpi=150)
    console.print(f"Results: {experiment.folder / 'results.csv'}, {plot}", soft_wrap=True)


def _table(lines: "Sequence[Summary]") -> "Table":
    table = folding_table(
        "strategy", "seeds", "final IoU", "area under curve", "of random", "of converged",
        "random's IoU at", caption="± is the standard deviation over seeds",
    )  # fmt: skip
    for line in lines:
        table.add_row(
            line.name,
            str(line.seeds),
            _spread(line.final_iou, line.final_spread, line.seeds),
            "-" if line.area is None else _spread(line.area, line.area_spread, line.seeds),
            "-" if line.of_random is None else f"{line.of_random:.2f} x",
            "-" if line.of_converged is None else f"{line.of_converged:.1%}",
            "-" if line.budget is None else f"{line.budget:.0%} of labels",
        )
    return table


def _spread(mean: float, spread: float, seeds: int) -> str:
    return f"{mean:.3f} ± {spread:.3f}" if seeds > 1 else f"{mean:.3f}"
