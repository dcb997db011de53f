"""Models of Microscopy Image Browser (.model): MAT files of version 5 or 7.3.

``modelVariable`` names the array, rows, columns, slices and perhaps time points; value 1 is the
first of ``modelMaterialNames``. Names that are only numbers, which MIB gives models of more than
255 materials, say nothing and are left out. ``BoundingBox`` spans the centres of the outer voxels,
in micrometres.

Cannot be read: MAT files of version 4, masks and annotations beside the model.

References
----------
.. [1] https://github.com/Ajaxels/MIB2, saveModel.m and getBoundingBox.m of its class mibImage

Examples
--------
>>> import numpy as np, pathlib, scipy.io, tempfile
>>> path = pathlib.Path(tempfile.mkdtemp()) / "Labels_cells.model"
>>> model = {"mibModel": np.zeros((3, 4, 2), "uint8"), "modelVariable": "mibModel"}
>>> scipy.io.savemat(path, model, appendmat=False)
>>> with MibReader(path) as stack:
...     stack.info.shape
(2, 3, 4)
"""

from contextlib import ExitStack
from pathlib import Path

from biosegment.errors import UnreadableFileError
from biosegment.geometry import VoxelSize
from importers.array_reader import ArrayReader
from importers.axes import Axes
from importers.base import Choice, VolumeInfo, storable_dtype
from importers.bounding_box import box_edges
from importers.damage import explain_damage
from importers.datasets import chosen_dataset
from importers.mat5 import Mat5File
from importers.mat73 import Mat73File
from importers.mat_file import MatFile

_VARIABLE, _USUAL_VARIABLE = "modelVariable", "mibModel"
# Of arrays whose axes were reversed.
_AXES = {2: "xy", 3: "zxy", 4: "tzxy"}
_NM_PER_UM = 1000


class MibReader(ArrayReader):
    """A model of MIB as a volume of label values."""

    SUFFIXES = (".model",)

    def __init__(self, path: Path, choice: Choice = Choice()) -> None:  # noqa: B008 (frozen)
        super().__init__(path, choice)
        with explain_damage(path), ExitStack() as opened:
            file = _open(path)
            if file is None:
                raise UnreadableFileError(str(path), "it does not begin like a MAT file")
            opened.callback(file.close)
            stated = "".join(file.texts(_VARIABLE))
            name = chosen_dataset(path, [stated or _USUAL_VARIABLE], choice.dataset)
            if name not in file:
                raise UnreadableFileError(str(path), f"it has no variable {name}")
            self._array = file.array(name)
            names = _AXES.get(len(self._array.shape))
            self._axes = Axes.of(path, self._array.shape, names)
            box = box_edges(file.numbers("BoundingBox"), self._axes.shape)
            chunks = getattr(self._array, "chunks", None)
            self._info = VolumeInfo(
                shape=self._axes.shape,
                dtype=storable_dtype(path, self._array.dtype),
                voxel_size=VoxelSize(*(edge * _NM_PER_UM for edge in box)) if box else None,
                files=(path,),
                times=self._axes.size("t"),
                dataset=name,
                chunks=chunks and self._axes.zyx(chunks, 1),
                label_names=_names(file),
            )
            self._opened = opened.pop_all()

    @classmethod
    def refusal(cls, path: Path) -> str | None:
        """Return why this is not a model of MIB, None if it is."""
        if path.is_dir():
            return "it is a folder"
        with explain_damage(path), ExitStack() as opened:
            file = _open(path)
            if file is None:
                return "it does not begin like a MAT file"
            opened.callback(file.close)
            is_model = _VARIABLE in file or _USUAL_VARIABLE in file
        return None if is_model else f"it has no variable {_VARIABLE} or {_USUAL_VARIABLE}"

    def close(self) -> None:
        """Close the file."""
        self._opened.close()


def _open(path: Path) -> MatFile | None:
    """Return an open MAT file of whichever version, None if it is none."""
    for kind in (Mat5File, Mat73File):
        if kind.begins(path):
            return kind(path)
    return None


def _names(file: MatFile) -> dict[int, str]:
    names = enumerate(file.texts("modelMaterialNames"), start=1)
    return {value: name for value, name in names if name and not name.isdecimal()}
