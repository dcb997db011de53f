"""Arguments that name a volume, as several commands take them."""

from typing import Annotated

import typer

from biosegment.errors import SettingsError

# No path, which would take away one slash of https://.
Stack = Annotated[str, typer.Argument(help="A volume file, a folder, or an address (https, s3).")]
Dataset = Annotated[
    str | None, typer.Option(help="Which of several volumes in the file: its path or name.")
]
Channel = Annotated[int | None, typer.Option(min=0, help="Which channel, from 0.")]
Time = Annotated[int | None, typer.Option(min=0, help="Which time point, from 0.")]


def voxel(option: str, text: str) -> tuple[int, int, int]:
    """Return the voxel that an option's ``z,y,x`` says.

    Raises
    ------
    SettingsError
        If it is no such voxel.
    """
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise SettingsError(option, f"is a voxel z,y,x such as 10,512,300, not {text}")
    z, y, x = map(int, parts)
    return z, y, x
