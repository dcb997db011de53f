"""``biosegment doctor``: is everything connected as it should be, and what to do if not."""

import json
import os
import sys
from dataclasses import asdict
from typing import Annotated, Final

import typer
from rich.markup import escape

from biosegment.cli.console import console
from biosegment.findings import Finding, Level
from biosegment.settings import Settings
from biosegment.stack import connection

COLOURS: Final = {Level.OK: "green", Level.WARNING: "yellow", Level.FAILURE: "bold red"}


def doctor(
    as_json: Annotated[
        bool, typer.Option("--json", help="Print an object with all findings instead.")
    ] = False,
) -> None:
    """Check an installation, part by part, and say what to do about what is not in order.

    Exits with 1 when a check fails.
    """
    from ml_backend.doctor import examine

    found = []
    for finding in examine(Settings.from_env(connection(os.environ))):
        found.append(finding)
        if not as_json:
            _show(finding)
    failed = any(each.level is Level.FAILURE for each in found)
    if as_json:
        answer = {"ok": not failed, "findings": [asdict(each) for each in found]}
        sys.stdout.write(json.dumps(answer, indent=2) + "\n")
    if failed:
        raise typer.Exit(1)


def _show(finding: Finding) -> None:
    colour = COLOURS[finding.level]
    line = f"[{colour}]{finding.level:<8}[/] [bold]{finding.check}[/]: {escape(finding.sentence)}"
    console.print(line, soft_wrap=True)
