"""Writing volumes and segmentations for other programs."""

from biosegment.registry import LazyRegistry
from exporters.base import VolumeWriter

WRITERS: LazyRegistry[type[VolumeWriter]] = LazyRegistry(
    {
        "amira": "exporters.amira:AmiraWriter",
        "gltf": "exporters.gltf:GltfWriter",
        "hdf5": "exporters.hdf5:Hdf5Writer",
        "ims": "exporters.ims:ImsWriter",
        "mib": "exporters.mib:MibWriter",
        "n5": "exporters.n5:N5Writer",
        "nifti": "exporters.nifti:NiftiWriter",
        "nrrd": "exporters.nrrd_file:NrrdWriter",
        "ome_zarr": "exporters.ome_zarr:OmeZarrWriter",
        "ply": "exporters.ply:PlyWriter",
        "png": "exporters.png:PngWriter",
        "rois": "exporters.rois:RoiWriter",
        "stl": "exporters.stl:StlWriter",
        "tiff": "exporters.tiff:TiffWriter",
    }
)
"""Every format that can be written, by name."""
