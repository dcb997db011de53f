"""SimpleITK: the readers of ITK, which 3D Slicer and ITK-SNAP use."""

import SimpleITK
from answers import answer_all

UM_PER_MM = 1000


def read(job):
    image = SimpleITK.ReadImage(job.path)
    keys = image.GetMetaDataKeys()
    segments = [key.removesuffix("_LabelValue") for key in keys if key.endswith("_LabelValue")]
    values = {each: int(image.GetMetaData(f"{each}_LabelValue")) for each in segments}
    return {
        "voxels": SimpleITK.GetArrayFromImage(image),
        "voxel_size_um": [edge * UM_PER_MM for edge in image.GetSpacing()[::-1]],
        "names": {value: image.GetMetaData(f"{each}_Name") for each, value in values.items()},
        "colours": {value: colour(image, each) for each, value in values.items()},
        "direction": image.GetDirection(),
    }


def colour(image, segment):
    parts = image.GetMetaData(f"{segment}_Color").split()
    return [round(255 * float(part)) for part in parts]


answer_all(read)
