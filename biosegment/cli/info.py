"""``biosegment formats`` and ``biosegment info``: what can be read, and what a file holds."""

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib import metadata
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from biosegment.cli.console import console
from biosegment.cli.source import Channel, Dataset, Stack, Time
from biosegment.errors import BioSegmentError, ChoiceError, VoxelSizeError

if TYPE_CHECKING:
    from importers.base import Choice

_MOST_LINES = 20


def formats() -> None:
    """List the formats that can be imported, and those that can be exported."""
    from exporters import WRITERS
    from importers import READERS

    table = Table("reader", "suffixes", "takes", "needs", box=None, header_style="bold")
    for name, reader in READERS.items():
        needs = "" if reader.EXTRA is None else f"biosegment[{reader.EXTRA}]"
        if reader.EXTRA is not None and not extra_is_installed(reader.EXTRA):
            needs += ": not installed"
        table.add_row(name, " ".join(reader.SUFFIXES), _first_line(reader), escape(needs))
    console.print(table)
    table = Table("writer", "suffixes", "writes", box=None, header_style="bold")
    for name, writer in WRITERS.items():
        suffixes = dict.fromkeys(filter(None, (writer.IMAGE_SUFFIX, writer.LABELS_SUFFIX)))
        table.add_row(name, " ".join(suffixes), _first_line(writer))
    console.print(table)


def _first_line(kind: type) -> str:
    """Return what the module of a reader or writer says that it is about."""
    line = (sys.modules[kind.__module__].__doc__ or "").partition("\n")[0]
    return escape(line.rstrip("."))


def info(
    stack: Stack,
    dataset: Dataset = None,
    channel: Channel = None,
    time: Time = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show what a volume file or a folder of slices holds, without reading its voxels."""
    from importers.base import Choice

    choice = Choice(dataset, channel, time)
    try:
        facts = volume_facts(stack, choice)
    except ChoiceError as exc:
        _, axis, names, chosen = exc.args
        if axis != "dataset" or chosen is not None:
            raise
        facts = _datasets_facts(stack, choice, names)
    if as_json:
        typer.echo(dumps(facts, indent=2, ensure_ascii=False))
    else:
        _show(facts)


def volume_facts(source: Path | str, choice: "Choice") -> dict[str, Any]:
    """Return what is known of the volume that a choice leaves, as JSON has it.

    Raises
    ------
    BioSegmentError
        If it cannot be opened, or what was chosen is not there.
    """
    from importers.detect import open_volume, reader_name

    with open_volume(source, choice) as reader:
        reader.check_choice()
        found, name = reader.info, reader_name(reader)
    notices = list(found.notices)
    if found.voxel_size:
        try:
            found.voxel_size.check_plausible(f"in {Path(source).name}")
        except VoxelSizeError as exc:
            notices.append(str(exc).rstrip("."))
    return {
        "file": str(source),
        "reader": name,
        "dataset": found.dataset,
        "shape": list(found.shape),
        "dtype": found.dtype.name,
        "voxel_size_nm": list(found.voxel_size.zyx) if found.voxel_size else None,
        "channels": found.channels,
        "channel_names": list(found.channel_names),
        "times": found.times,
        "chunks": list(found.chunks) if found.chunks else None,
        "metadata": dict(found.metadata),
        "notices": notices,
    }


def _datasets_facts(source: str, choice: "Choice", names: list[str]) -> dict[str, Any]:
    """Return what is known of each of several volumes, none of which was chosen."""
    told: list[dict[str, Any]] = []
    for name in names:
        try:
            told.append(volume_facts(source, replace(choice, dataset=name)))
        except BioSegmentError as exc:
            told.append({"dataset": name, "notices": [str(exc).rstrip(".")]})
    kept = ("dataset", "shape", "dtype", "voxel_size_nm", "channels", "times", "notices")
    return {
        "file": source,
        "reader": next((facts["reader"] for facts in told if "reader" in facts), None),
        **dict.fromkeys(("shape", "dtype", "voxel_size_nm", "channels")),
        "datasets": [{key: facts[key] for key in kept if key in facts} for facts in told],
    }


def _show(facts: Mapping[str, Any]) -> None:
    console.print(f"{facts['file']} (reader {facts['reader']})", markup=False, soft_wrap=True)
    for dataset in facts.get("datasets", [facts]):
        grid = Table.grid(padding=(0, 2))
        for name, text in _lines(dataset):
            grid.add_row(f"[bold]{name}[/]", escape(text))
        console.print(grid)
    if "datasets" in facts:
        console.print("It holds several volumes: choose one with --dataset.")


def _lines(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a label and a text for each thing to show."""
    lines = [("dataset", facts["dataset"])] if facts["dataset"] else []
    if "shape" in facts:
        edges = facts["voxel_size_nm"]
        voxel = f"{_times(edges)} nm (z, y, x)" if edges else "unknown"
        lines += [("voxels", f"{_times(facts['shape'])} (z, y, x), {facts['dtype']}")]
        lines += [("voxel size", voxel)]
    if facts.get("channels", 1) > 1:
        names = enumerate(facts.get("channel_names", ()))
        listed = ", ".join(f"{number} {name}" for number, name in names)
        lines.append(("channels", f"{facts['channels']} {f'({listed})' if listed else ''}"))
    if facts.get("times", 1) > 1:
        lines.append(("time points", str(facts["times"])))
    if facts.get("chunks"):
        lines.append(("chunks", _times(facts["chunks"])))
    lines += [("notice", f"{notice}.") for notice in facts["notices"]]
    told = list(facts.get("metadata", {}).items())
    lines += [(name, " ".join(text.split())[:100]) for name, text in told[:_MOST_LINES]]
    if len(told) > _MOST_LINES:
        lines.append(("…", f"and {len(told) - _MOST_LINES} more, all shown by --json"))
    return lines


def _times(numbers: list[float]) -> str:
    return " x ".join(f"{number:g}" for number in numbers)


def extra_is_installed(extra: str) -> bool:
    """Tell whether all that an optional extra of the package asks for is installed."""
    try:
        requirements = [line.partition(";") for line in metadata.requires("biosegment") or ()]
        wanted = [
            re.split(r"[^\w.-]", requirement)[0]
            for requirement, _, marker in requirements
            if f'extra == "{extra}"' in marker.replace("'", '"')
        ]
        return bool(wanted) and all(map(metadata.version, wanted))
    except metadata.PackageNotFoundError:
        return False
