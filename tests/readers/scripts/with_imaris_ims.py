"""imaris-ims-file-reader, which napari's plugin for Imaris files uses."""

import numpy as np
from answers import answer_all
from imaris_ims_file_reader.ims import ims


def read(job):
    # Rounded to three decimals unless told otherwise.
    file = ims(job.path, squeeze_output=False, resolution_decimal_places=9)
    try:
        # Its own channels are those of the classes, after the others.
        channel = 1 if (job.content, job.layer) == ("both", "labels") else 0
        return {
            "voxels": np.asarray(file[0, channel, :, :, :]).reshape(job.shape),
            "voxel_size_um": file.resolution,
        }
    finally:
        file.close()


answer_all(read)
