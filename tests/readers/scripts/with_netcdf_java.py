"""NetCDF-Java, which reads HDF5 by code of its own; Bio-Formats brings it."""

import json

import bioformats_java
import numpy as np
from answers import answer_all

bioformats_java.start()

from ucar.nc2 import NetcdfFile  # noqa: E402

TYPES = {"byte": "int8", "short": "int16", "int": "int32", "float": "float32", "double": "float64"}
UNSIGNED = {"ubyte": "uint8", "ushort": "uint16", "uint": "uint32"}


def read(job):
    file = NetcdfFile.open(job.path)
    try:
        variable = file.findVariable(job.layer)
        axes = json.loads(variable.findAttribute("axistags").getStringValue())["axes"]
        assert [axis["key"] for axis in axes] == ["z", "y", "x"]
        sizes = variable.findAttribute("element_size_um")
        names = variable.findAttribute("label_names")
        kind = str(variable.getDataType())
        values = np.array(variable.read().copyTo1DJavaArray())
        return {
            "voxels": values.view((TYPES | UNSIGNED)[kind]).reshape(*variable.getShape()),
            "voxel_size_um": [sizes.getNumericValue(axis) for axis in range(3)],
            "names": json.loads(names.getStringValue()) if names else {},
        }
    finally:
        file.close()


answer_all(read)
