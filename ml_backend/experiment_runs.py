"""The runs of an experiment in parallel processes, each of which can be killed at any time.

Every run keeps its state in one file, ``runs/STRATEGY-seedN.safetensors``: the weights of the last
round, and the rounds and labelled tiles so far as metadata. ``results.csv`` is made from them, and
keeps what it holds of runs whose state is gone: it can be shared, and added to, alone.
"""

import csv
import io
import json
import multiprocessing
import signal
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import asdict, astuple, dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError

from biosegment.disk import explain_full_disk, write_atomically
from biosegment.errors import BioSegmentError, RunEndedError, UnreadableFileError
from ml_backend.experiment import (
    GroundTruth,
    Protocol,
    Round,
    Run,
    State,
    is_complete,
    simulate,
)
from ml_backend.hardware import keep_memory
from ml_backend.model.unet import UNet, UNetSpec
from ml_backend.training import TrainingSpec

COLUMNS: Final = ("strategy", "seed", "labels", "iou", "train_s", "rank_s")
"""Of results.csv."""


@dataclass(frozen=True, slots=True, eq=False)
class Experiment:
    """What all runs have in common."""

    folder: Path
    """Where states and results go."""
    truth: GroundTruth
    """The labelled volume."""
    protocol: Protocol
    """What is simulated."""
    spec: TrainingSpec
    """How is trained."""

    def state_path(self, run: Run) -> Path:
        """Return the file that holds where a run stands."""
        return self.folder / "runs" / f"{run.strategy}-seed{run.seed}.safetensors"

    def results(self) -> dict[Run, tuple[Round, ...]]:
        """Return the finished rounds of all runs in the folder, also of earlier commands.

        Raises
        ------
        UnreadableFileError
            When a state or results.csv is damaged.
        """
        found = self._written()
        for path in sorted((self.folder / "runs").glob("*-seed*.safetensors")):
            strategy, _, seed = path.stem.rpartition("-seed")
            found[Run(strategy, int(seed))] = load_rounds(path)
        return found

    def _written(self) -> dict[Run, tuple[Round, ...]]:
        """Return the rounds in results.csv."""
        path = self.folder / "results.csv"
        if not path.exists():
            return {}
        found: dict[Run, tuple[Round, ...]] = {}
        with path.open(newline="", encoding="utf-8") as file:
            try:
                for row in csv.DictReader(file):
                    run = Run(row["strategy"], int(row["seed"]))
                    done = Round(
                        int(row["labels"]),
                        float(row["iou"]),
                        float(row["train_s"]),
                        float(row["rank_s"]),
                    )
                    found[run] = (*found.get(run, ()), done)
            except (KeyError, TypeError, ValueError) as exc:
                reason = f"it is no table of results ({exc}); delete it"
                raise UnreadableFileError(str(path), reason) from exc
        return found

    def write_results(self) -> None:
        """Write results.csv, a line a round of all runs in the folder."""
        results = self.results()
        text = io.StringIO()
        table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        table.writeheader()
        for run in sorted(results, key=astuple):
            table.writerows(asdict(run) | asdict(done) for done in results[run])
        with explain_full_disk(self.folder):
            write_atomically(self.folder / "results.csv", text.getvalue().encode())


def save_state(path: Path, state: State) -> None:
    """Write the state of a run, in place of the one before.

    Raises
    ------
    DiskFullError
        When the disk takes no more. The state before is untouched.
    """
    weights = {name: value.cpu().contiguous() for name, value in state.network.state_dict().items()}
    facts = {
        "rounds": json.dumps([asdict(done) for done in state.rounds]),
        "labelled": json.dumps(state.labelled),
    }
    with explain_full_disk(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, safetensors.torch.save(weights, facts))


def load_rounds(path: Path) -> tuple[Round, ...]:
    """Return the rounds that a state file knows.

    Raises
    ------
    UnreadableFileError
        When it is damaged.
    """
    return tuple(Round(**done) for done in json.loads(_metadata(path)["rounds"]))


def load_state(path: Path, spec: TrainingSpec) -> State | None:
    """Return the state of a run; None before its first round.

    Raises
    ------
    UnreadableFileError
        When it is damaged, or of another network.
    """
    if not path.exists():
        return None
    network = UNet(UNetSpec(len(spec.classes), tuple(spec.widths), spec.dropout))
    try:
        network.load_state_dict(safetensors.torch.load_file(path))
    except (SafetensorError, RuntimeError) as exc:
        raise UnreadableFileError(str(path), f"{exc}; delete it to do this run again") from exc
    labelled = tuple(json.loads(_metadata(path)["labelled"]))
    return State(load_rounds(path), labelled, network.eval())


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            facts: dict[str, str] = file.metadata()
    except SafetensorError as exc:
        raise UnreadableFileError(str(path), f"{exc}; delete it to do this run again") from exc
    return facts


def carry_out(
    experiment: Experiment, runs: Sequence[Run], jobs: int, threads: int
) -> Generator[tuple[Run, Round], None, None]:
    """Do what is left of some runs; yield each round when it is on disk, in any order of runs.

    Closing the iterator kills the processes, which loses no finished round.

    Parameters
    ----------
    experiment : Experiment
    runs : sequence of Run
    jobs : int
        Processes at a time.
    threads : int
        Of torch in each process. Another number gives other digits.

    Raises
    ------
    RunEndedError
        When a process ends unexpectedly.
    BioSegmentError
        What a run raised.
    """
    results = experiment.results()
    experiment.write_results()
    waiting = deque(
        run for run in runs if not is_complete(run, results.get(run, ()), experiment.protocol)
    )
    active: dict[Connection, tuple[Run, ForkServerProcess]] = {}
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                run = waiting.popleft()
                connection, process = _start(experiment, run, threads)
                active[connection] = (run, process)
            ready = set(wait(list(active)))
            for connection in [each for each in active if each in ready]:
                run, process = active[connection]
                done = _next_round(connection, run, process)
                if done is None:
                    del active[connection]
                else:
                    experiment.write_results()
                    yield run, done
    finally:
        for connection, (_, process) in active.items():
            # Not terminate(): a training answers SIGTERM at its end only.
            process.kill()
            process.join()
            connection.close()


def _start(experiment: Experiment, run: Run, threads: int) -> tuple[Connection, ForkServerProcess]:
    # Neither CUDA nor OpenMP survives a fork of this process, which may have used them. The server
    # has only imported them, and spares every process the seconds of that.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(there, experiment, run, threads), daemon=True)
    process.start()
    there.close()
    return here, process


def _next_round(connection: Connection, run: Run, process: ForkServerProcess) -> Round | None:
    """Return what a process has to tell: a round, or None at its end; raise what it failed of."""
    try:
        told: Round | BioSegmentError = connection.recv()
    except EOFError:
        connection.close()
        process.join()
        if process.exitcode:
            raise RunEndedError(str(run), process.exitcode) from None
        return None
    if isinstance(told, BioSegmentError):
        raise told
    return told


def _work(connection: Connection, experiment: Experiment, run: Run, threads: int) -> None:
    """Do the rounds that are left of a run; tell each, or the error that ended it."""
    # Ctrl-C reaches the whole process group; the parent answers it for all.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    keep_memory()
    path = experiment.state_path(run)
    try:
        state = load_state(path, experiment.spec)
        for reached in simulate(run, experiment.truth, experiment.protocol, experiment.spec, state):
            save_state(path, reached)
            connection.send(reached.rounds[-1])
    except BioSegmentError as exc:
        connection.send(exc)
    except BrokenPipeError:
        # The parent was killed. Whoever repeats the command goes on from the saved state.
        return
