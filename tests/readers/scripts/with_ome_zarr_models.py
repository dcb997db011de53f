"""ome-zarr-models, which holds metadata against the specification; voxels by TensorStore."""

import tensorstore
import zarr
from answers import answer_all
from ome_zarr_models.v05.image import Image
from ome_zarr_models.v05.image_label import ImageLabel

NM_PER_UM = 1000


def read(job):
    root = zarr.open_group(job.path, mode="r")
    image, told, path = Image.from_zarr(root), {}, job.path
    if job.layer == "labels":
        if image.labels:
            (name,) = image.labels.label_paths
            path, root = f"{path}/labels/{name}", root[f"labels/{name}"]
        image = ImageLabel.from_zarr(root)
        label = image.ome_attributes.image_label
        told = {
            "names": {each.label_value: each.name for each in label.properties or ()},
            "colours": {each.label_value: each.rgba[:3] for each in label.colors or ()},
        }
    (multiscale,) = image.ome_attributes.multiscales
    assert [(axis.name, axis.unit) for axis in multiscale.axes] == [
        (name, "nanometer") for name in "zyx"
    ]
    finest = multiscale.datasets[0]
    store = {"driver": "file", "path": f"{path}/{finest.path}"}
    array = tensorstore.open({"driver": "zarr3", "kvstore": store}, open=True).result()
    (scale, *_) = finest.coordinateTransformations
    return told | {
        "voxels": array.read().result(),
        "voxel_size_um": [edge / NM_PER_UM for edge in scale.scale],
    }


answer_all(read)
