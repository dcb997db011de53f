"""Writing volumes and segmentations for other programs."""

from biosegment.registry import LazyRegistry
from exporters.base import VolumeWriter

WRITERS: LazyRegistry[type[VolumeWriter]] = LazyRegistry(
    {
        "amira": "exporters.amira:AmiraWriter",
        "hdf5": "exporters.hdf5:Hdf5Writer",
        "ims": "exporters.ims:ImsWriter",
        "mib": "exporters.mib:MibWriter",
        "nifti": "exporters.nifti:NiftiWriter",
        "nrrd": "exporters.nrrd_file:NrrdWriter",
        "ome_zarr": "exporters.ome_zarr:OmeZarrWriter",
        "rois": "exporters.rois:RoiWriter",
        "tiff": "exporters.tiff:TiffWriter",
    }
)
"""Every format that can be written, by name."""
