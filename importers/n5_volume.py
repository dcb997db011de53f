"""N5 containers, in a folder, zip file or behind an address.

An own reader of the blocks (``n5_dataset.py``), seen by zarr-python as Zarr: packages that read N5
with zarr-python 3 lack half of the compressions. Three axes are x, y, z as N5 has them. Of the
scale levels ``s0``, ``s1``, … the first is taken unless another one is chosen. Voxel sizes are
``pixelResolution``, COSEM's ``transform``, or ``resolution`` in nanometres. Blocks that are not
there are 0.

Cannot be read: label multisets, and blocks of serialized objects.

References
----------
.. [1] https://github.com/saalfeldlab/n5, https://github.com/saalfeldlab/n5-viewer

Examples
--------
>>> import json, tempfile, pathlib
>>> path = pathlib.Path(tempfile.mkdtemp()) / "stack.n5"
>>> path.mkdir()
>>> shape = {"dimensions": [4, 3, 2], "blockSize": [4, 3, 2], "dataType": "uint8"}
>>> text = json.dumps({**shape, "compression": {"type": "raw"}})
>>> _ = (path / "attributes.json").write_text(text)
>>> with N5Reader(path) as stack:
...     stack.info.shape
(2, 3, 4)
"""

from pathlib import Path

from zarr.abc.store import Store

from biosegment.errors import LinkError
from biosegment.linked import Link
from importers.chunk_store import open_store
from importers.n5_store import ATTRIBUTES, N5Store
from importers.zarr_volume import ZarrReader


class N5Reader(ZarrReader):
    """A dataset of an N5 container as a volume."""

    SUFFIXES = (".n5", ".n5.zip")
    MARKS = (ATTRIBUTES,)
    ORDER = "xyz"
    VERSION = 3

    def link(self) -> Link:
        """Raise LinkError: what reads a linked volume does not know N5."""
        raise LinkError(str(self.path), "containers of N5 are copied")

    @classmethod
    def _store(cls, path: Path | str) -> Store:
        return N5Store(open_store(path))
