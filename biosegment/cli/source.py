"""Arguments that name a volume, as several commands take them."""

from typing import Annotated

import typer

# No path, which would take away one slash of https://.
Stack = Annotated[str, typer.Argument(help="A volume file, a folder, or an address (https, s3).")]
Dataset = Annotated[
    str | None, typer.Option(help="Which of several volumes in the file: its path or name.")
]
Channel = Annotated[int | None, typer.Option(min=0, help="Which channel, from 0.")]
Time = Annotated[int | None, typer.Option(min=0, help="Which time point, from 0.")]
