"""napari with its plugin napari-ome-zarr, without a window."""

import warnings

import numpy as np
from answers import answer_all
from napari.components import ViewerModel
from napari.layers import Image, Labels
from napari.plugins import _initialize_plugins

NM_PER_UM = 1000

_initialize_plugins()


def read(job):
    viewer = ViewerModel()
    with warnings.catch_warnings(action="ignore"):
        viewer.open(job.path, plugin="napari-ome-zarr")
    kind = Labels if job.layer == "labels" else Image
    (layer,) = [each for each in viewer.layers if type(each) is kind]
    assert {str(unit) for unit in layer.units} == {"nanometer"}
    return {
        "voxels": np.asarray(layer.data[0] if layer.multiscale else layer.data),
        "voxel_size_um": [edge / NM_PER_UM for edge in layer.scale],
    } | (meaning(layer) if kind is Labels else {})


def meaning(layer):
    values = [int(value) for value in layer.features.get("index", [])]
    names = layer.features.get("name", [])
    return {
        "names": dict(zip(values, names, strict=True)),
        "colours": {value: rgb(layer.get_color(value)) for value in values},
    }


def rgb(rgba):
    return [round(255 * float(part)) for part in rgba[:3]]


answer_all(read)
