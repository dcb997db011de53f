"""A day of work on a stack that is broken again and again: ``python -m benchmarks.soak``.

    python -m benchmarks.soak --minutes 30 --seed 1 --log soak.log

Starts a whole stack with two workers on an empty folder; several annotators, each with an account,
paint, correct, skip and delete through Label Studio's API. Faults follow each other in an order
drawn from the seed. After each, the annotators rest until the loop has healed by itself; then one
more training must have every annotation exactly once, and more (`benchmarks/soak/checks.py`). Exits
with 1 when something did not heal in time or was not as promised.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

from benchmarks.soak.annotators import Crew
from benchmarks.soak.checks import Observer, unhealed, violations
from benchmarks.soak.faults import FAULTS, MissedError
from benchmarks.soak.stage import Stage, stage

BOUND_S: Final = 300.0
"""Whatever happens has to be healed after this long."""
TRIES: Final = 3
"""How often the moment that a fault is about is waited for."""
TITLES: Final = ("Soak one", "Soak two")


class Log:
    """Lines with the seconds since the start, on the terminal and in a file."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._began = time.monotonic()

    def __call__(self, line: str) -> None:
        """Write a line at once."""
        line = f"{time.monotonic() - self._began:8.1f} s  {line}"
        for out in (self._file, sys.stdout):
            print(line, file=out, flush=True)


@dataclass(slots=True)
class Tally:
    """What came of the faults."""

    healed_s: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    """Fault -> the seconds that each of its healings took."""
    happened: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    missed: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    violations: list[str] = field(default_factory=list)

    def table(self) -> str:
        """Return a row a fault."""
        lines = [f"{'fault':28} {'happened':>8} {'healed':>6} {'longest':>9}"]
        for name in FAULTS:
            if self.happened[name] or self.missed[name]:
                times = self.healed_s[name]
                longest = f"{max(times):.1f} s" if times else ""
                row = f"{name:28} {self.happened[name]:>8} {len(times):>6} {longest:>9}"
                lines.append(row + (f"  missed {self.missed[name]}" if self.missed[name] else ""))
        return "\n".join(lines)

    @property
    def all_healed(self) -> bool:
        """Whether every fault that happened was healed in time."""
        return all(len(self.healed_s[name]) == count for name, count in self.happened.items())


class Soak:
    """Breaks a stage, and looks whether it heals."""

    def __init__(self, broken: Stage, crew: Crew, rng: random.Random, log: Log) -> None:
        self.tally = Tally()
        self._stage = broken
        self._crew = crew
        self._rng = rng
        self._log = log
        self._observer = Observer(broken)
        self._observer.start()

    def play(self, names: list[str], minutes: float) -> None:
        """Let the faults happen, in an order of chance, until time is up; at least each once."""
        deadline = time.monotonic() + 60 * minutes
        first = True
        while first or time.monotonic() < deadline:
            for name in self._rng.sample(names, len(names)):
                if first or time.monotonic() < deadline:
                    self._break(name)
            first = False
        self._observer.stop()
        self.tally.violations += sorted(set(self._observer.overlaps))

    def _break(self, name: str) -> None:
        """Let a fault happen, wait until it is healed, and check what must hold then."""
        for _ in range(TRIES):
            self._crew.work()
            time.sleep(self._rng.uniform(2, 5))
            self._log(f"fault     {name}")
            try:
                what = FAULTS[name](self._stage, self._rng)
                break
            except MissedError as exc:
                self.tally.missed[name] += 1
                self._log(f"missed    {name}: {exc}")
        else:
            return
        self.tally.happened[name] += 1
        over = time.monotonic()
        self._log(f"over      {name}: {what}")
        time.sleep(self._rng.uniform(0, 3))
        self._crew.rest()
        if not self._stage.wait(lambda: not unhealed(self._stage), BOUND_S):
            self._fail(f"{name} is not healed after {BOUND_S:.0f} s: {unhealed(self._stage)}")
            return
        self.tally.healed_s[name].append(time.monotonic() - over)
        self._log(f"healed    {name}: {self.tally.healed_s[name][-1]:.1f} s")
        for violation in violations(self._stage):
            self._fail(f"after {name}: {violation}")
        self._log(f"checked   {name}")

    def _fail(self, what: str) -> None:
        self.tally.violations.append(what)
        self._log(f"VIOLATION {what}")

    def summary(self) -> str:
        """Return the tables of what happened."""
        done, registry = self._crew.done, self._stage.registry
        versions = sum(len(registry.cards(number)) for number in registry.projects())
        actions = ", ".join(f"{count} {action}" for action, count in sorted(done.items()))
        return (
            f"{self.tally.table()}\n\nannotators: {actions}\nversions made: {versions}\n"
            f"looks at who trains: {self._observer.looks}\n"
            f"violations: {len(self.tally.violations)}"
        )


def main() -> None:
    """Play, print what came of it, and exit with 1 when anything was not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="no new fault after that")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--annotators", type=int, default=4)
    parser.add_argument("--slices", type=int, default=12, help="of each volume, 64 tiles each")
    parser.add_argument("--faults", default=",".join(FAULTS), help="names, separated by commas")
    parser.add_argument("--log", type=Path, default=Path("soak.log"))
    parser.add_argument("--keep", type=Path, help="folder for the stack's data, which stays")
    arguments = parser.parse_args()
    names = arguments.faults.split(",")
    if unknown := set(names) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; there are {', '.join(FAULTS)}")
    with (
        tempfile.TemporaryDirectory(prefix="biosegment-soak-") as temporary,
        arguments.log.open("w") as file,
    ):
        folder = arguments.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        log = Log(file)
        log(
            f"seed {arguments.seed}, {arguments.annotators} annotators, {arguments.minutes} minutes"
        )
        with stage(folder, log) as broken:
            for title in TITLES:
                number = broken.add_project(title, (arguments.slices, 512, 512))
                log(f"project   {number}: {title}")
            crew = Crew(broken, arguments.annotators, arguments.seed)
            soak = Soak(broken, crew, random.Random(arguments.seed), log)
            try:
                soak.play(names, arguments.minutes)
            finally:
                crew.stop()
                print(summary := soak.summary(), file=file)
                print(f"\n{summary}")
    sys.exit(0 if soak.tally.all_healed and not soak.tally.violations else 1)


if __name__ == "__main__":
    main()
