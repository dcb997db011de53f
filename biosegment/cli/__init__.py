"""The command line: parses, calls one function, prints.

This package is the composition root: the only one that imports importers, exporters and
ml_backend, each inside the command that needs it, so that ``biosegment --help`` stays fast.
"""

import logging
import sys
from typing import Final

import typer
from rich.markup import escape

from biosegment import __version__
from biosegment.cli.annotations import annotations
from biosegment.cli.benchmark import benchmark
from biosegment.cli.console import errors
from biosegment.cli.demo import demo
from biosegment.cli.doctor import doctor
from biosegment.cli.exporting import export
from biosegment.cli.importing import import_command
from biosegment.cli.info import formats, info
from biosegment.cli.loop import effort, status, train
from biosegment.cli.measure import measure
from biosegment.cli.models import models
from biosegment.cli.objects import objects
from biosegment.cli.segment import segment
from biosegment.cli.tune import tune
from biosegment.cli.up import up
from biosegment.errors import BioSegmentError

INTERRUPTED: Final = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # Paragraphs are wrapped to the terminal.
    rich_markup_mode="markdown",
    help="Label 3D electron microscopy volumes together with a U-Net, inside Label Studio.",
)
app.command()(demo)
app.command()(up)
app.command("import")(import_command)
app.command()(annotations)
app.command()(export)
app.command()(segment)
app.command()(objects)
app.command()(measure)
app.command()(formats)
app.command()(info)
app.command()(doctor)
app.command()(status)
app.command()(train)
app.command()(effort)
app.command()(models)
app.command()(tune)
app.command()(benchmark)


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"biosegment {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line; an error that its user can act on is one sentence and exit code 1."""
    # The readers check what they read; tifffile's own complaints would only repeat theirs.
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)
    try:
        app()
    except BioSegmentError as exc:
        errors.print(f"[bold red]Error:[/] {escape(str(exc))}", soft_wrap=True)
        sys.exit(1)
    except SystemExit as exc:
        # Typer's answer to Ctrl-C.
        if exc.code == INTERRUPTED:
            errors.print("Interrupted; the same command takes up where it stopped.")
        raise
