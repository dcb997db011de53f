"""ImageJ: File > Open, and the ROI Manager."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from answers import answer_all, folder, let_answer, names_of_lines

TYPES = {8: ">u1", 16: ">u2", 32: ">f4"}


def start():
    macro = str(Path(__file__).with_suffix(".ijm"))
    home = f"-Duser.home={Path.home()}"
    java = ["java", home, "-Dfile.encoding=UTF-8", "-cp", os.environ["IMAGEJ_JAR"]]
    batch = ["ij.ImageJ", "-batch", macro, "|".join(sys.argv[1:])]
    let_answer(["xvfb-run", "-a", *java, *batch])


def read(job):
    told = json.loads((folder() / f"{job.key}.json").read_text(encoding="utf-8"))
    assert (told["channels"], told["frames"]) == (1, 1)
    voxels = np.fromfile(folder() / f"{job.key}.raw", TYPES[told["bits"]]).reshape(told["shape"])
    if job.format == "rois":
        return {"voxels": voxels, "parts": [*parts(told["rois"], voxels)]}
    found = {"voxels": voxels, "window": told["window"]}
    if job.layer == "labels":
        values = [value for value in np.unique(voxels).tolist() if value]
        found["colours"] = {int(value): shown(job, voxels == value) for value in values}
    if job.format == "tiff":
        assert told["unit"] == "µm"
        found |= {"voxel_size_um": told["voxel"], "names": names_of_lines(told["info"])}
    return found


def parts(rois, voxels):
    """Yield name and colour of each ROI, without its number; its area is what it fills."""
    for number, roi in enumerate(rois, 1):
        inside = voxels == number
        assert inside.sum() == inside[roi["slice"] - 1].sum() == roi["area"], roi
        colour = list(bytes.fromhex(roi["colour"].removeprefix("#")))
        yield {"name": roi["name"].rpartition("-")[0], "colour": colour}


def shown(job, mask):
    """Return the one colour that all voxels of a mask have on the screen."""
    pixels = np.fromfile(folder() / f"{job.key}.rgb", np.uint8).reshape(*mask.shape, 3)
    (colour,) = np.unique(pixels[mask], axis=0).tolist()
    return colour


start()
answer_all(read)
