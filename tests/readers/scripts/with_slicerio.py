"""slicerio, the library of 3D Slicer's authors for its segmentations."""

import numpy as np
import slicerio
from answers import answer_all

UM_PER_MM = 1000


def read(job):
    found = slicerio.read_segmentation(job.path)
    edges = np.linalg.norm(np.asarray(found["ijkToLPS"])[:3, :3], axis=0) * UM_PER_MM
    voxels = found["voxels"].transpose()
    segments = {each["labelValue"]: each for each in found["segments"]}
    for value, segment in segments.items():
        check_extent(segment["extent"], voxels == value)
    return {
        "voxels": voxels,
        "voxel_size_um": edges[::-1].tolist(),
        "names": {value: each["name"] for value, each in segments.items()},
        "colours": {
            value: [round(255 * part) for part in each["color"]] for value, each in segments.items()
        },
    }


def check_extent(extent, mask):
    """Let the box of a segment be the smallest one that holds it."""
    places = np.nonzero(mask)[::-1]
    ends = [end for axis in places for end in (axis.min(), axis.max())]
    assert list(extent) == ends, f"extent {extent}, voxels {ends}"


answer_all(read)
