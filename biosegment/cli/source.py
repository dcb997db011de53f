"""Arguments that name a volume, as several commands take them."""

from pathlib import Path
from typing import Annotated

import typer

Stack = Annotated[Path, typer.Argument(help="A volume file, or a folder of slices.")]
Dataset = Annotated[
    str | None, typer.Option(help="Which of several volumes in the file: its path or name.")
]
Channel = Annotated[int | None, typer.Option(min=0, help="Which channel, from 0.")]
Time = Annotated[int | None, typer.Option(min=0, help="Which time point, from 0.")]
