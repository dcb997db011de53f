"""What the commands print: messages, errors, and a bar for long work."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from biosegment.progress import Report

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@contextmanager
def progress_bar() -> Iterator[Report]:
    """Show a bar a stage; yields what to report ``(stage, done, total)`` to."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        stages: dict[str, int] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in stages:
                stages[stage] = bars.add_task(stage)
            bars.update(stages[stage], completed=done, total=total)  # type: ignore[arg-type]

        yield report


def folding_table(*columns: str, caption: str | None = None) -> Table:
    """Return a table that breaks what does not fit into a column, and cuts nothing off."""
    table = Table(caption=caption)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
