"""GNU Octave, which loads the files of MATLAB programs."""

import json
import sys
from pathlib import Path

import numpy as np
from answers import answer_all, folder, let_answer

TYPES = {"single": "float32", "double": "float64"}


def start():
    script = str(Path(__file__).with_suffix(".m"))
    let_answer(["octave-cli", "--quiet", "--norc", script, *sys.argv[1:]])


def read(job):
    told = json.loads((folder() / f"{job.key}.json").read_text(encoding="utf-8"))
    dtype = TYPES.get(told["class"], told["class"])
    flat = np.fromfile(folder() / f"{job.key}.raw", dtype)
    voxels = flat.reshape(told["size"], order="F")
    if job.format != "mib":
        # The first axis is the one that varies fastest.
        return {"voxels": voxels.transpose()}
    # Rows, columns, slices; from the centre of the first voxel to that of the last one.
    voxels = voxels.transpose(2, 0, 1)
    ends = np.reshape(told["box"], (3, 2))
    edges = (ends[:, 1] - ends[:, 0]) / (np.array(voxels.shape[::-1]) - 1)
    assert voxels.max() <= told["type"] <= np.iinfo(dtype).max
    colours = enumerate(told["colours"], 1)
    return {
        "voxels": voxels,
        "voxel_size_um": edges[::-1].tolist(),
        "names": dict(enumerate(told["names"], 1)),
        "colours": {value: [round(255 * part) for part in rgb] for value, rgb in colours},
    }


start()
answer_all(read)
