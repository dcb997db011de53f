"""A wall clock that can be set, for the processes started with it; time that passes stays real."""

import struct
import subprocess
from pathlib import Path


class Clock:
    """The wall clock of all processes that are started with `environment`.

    A small library, built with the system's C compiler, answers their questions for the time of
    day. (libfaketime 0.9.10 of Debian 12 makes ``time.sleep`` of Python fail.)

    Parameters
    ----------
    folder
        Where the library and the offset are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._library = folder / "clock.so"
        self._offset = folder / "clock.offset"
        self.set(0)
        source = Path(__file__).with_suffix(".c")
        command = f"cc -shared -fPIC -O2 {source} -o {self._library} -ldl"
        subprocess.run(command.split(), check=True)

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that give a process this clock."""
        return {"LD_PRELOAD": str(self._library), "CLOCK_OFFSET": str(self._offset)}

    def set(self, offset_s: float) -> None:
        """Let the clock go wrong by so many seconds from now on."""
        mode = "r+b" if self._offset.exists() else "w+b"
        # In place: the processes have the file mapped.
        with self._offset.open(mode) as file:
            file.write(struct.pack("=d", offset_s))
