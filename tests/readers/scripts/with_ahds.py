"""ahds, the Amira reader of the EMBL-EBI."""

import numpy as np
from answers import answer_all

for name, is_now in {"string_": np.bytes_, "unicode_": np.str_}.items():
    # NumPy 2 no longer has them.
    setattr(np, name, is_now)

from ahds import AmiraFile  # noqa: E402


def read(job):
    file = AmiraFile(job.path)
    (name,) = file.data_streams.attrs()
    assert name == ("Labels" if job.layer == "labels" else "Data")
    voxels = getattr(file.data_streams, name).data
    parameters = file.header.Parameters
    assert str(parameters.Units.Coordinates) == "um"
    # From the centre of the first voxel to that of the last one.
    ends = np.reshape([float(end) for end in parameters.BoundingBox], (3, 2))
    edges = (ends[:, 1] - ends[:, 0]) / (np.array(voxels.shape[::-1]) - 1)
    materials = materials_of(parameters) if "Materials" in parameters.attrs() else {}
    return {
        "voxels": voxels,
        "voxel_size_um": edges[::-1].tolist(),
        "names": {value: each.name for value, each in materials.items()},
        "colours": {
            value: [round(255 * float(part)) for part in each.Color]
            for value, each in materials.items()
        },
    }


def materials_of(parameters):
    materials = parameters.Materials.material_dict.values()
    return {int(each.Id): each for each in materials if int(each.Id)}


answer_all(read)
