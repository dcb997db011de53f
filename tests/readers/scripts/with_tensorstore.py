"""TensorStore, which reads N5 by code of its own, in Neuroglancer's tools among others."""

import tensorstore
from answers import answer_all

NM_PER_UM = 1000


def read(job):
    store = {"driver": "file", "path": f"{job.path}/{job.layer}/s0"}
    array = tensorstore.open({"driver": "n5", "kvstore": store}, open=True).result()
    # From x on.
    assert array.domain.labels == ("x", "y", "z")
    edges = array.dimension_units[::-1]
    assert {edge.base_unit for edge in edges} == {"nm"}
    return {
        "voxels": array.read().result().transpose(),
        "voxel_size_um": [edge.multiplier / NM_PER_UM for edge in edges],
    }


answer_all(read)
