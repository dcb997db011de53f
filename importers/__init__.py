"""Reading volumes of other programs into the volume store, and cutting them into tiles."""

from biosegment.registry import LazyRegistry
from importers.base import VolumeReader

READERS: LazyRegistry[type[VolumeReader]] = LazyRegistry(
    {
        "tiff": "importers.tiff:TiffReader",
        "mrc": "importers.mrc:MrcReader",
        "nifti": "importers.nifti:NiftiReader",
        "nrrd": "importers.nrrd_file:NrrdReader",
        "dm": "importers.dm:DmReader",
        "czi": "importers.czi:CziReader",
        "lif": "importers.lif:LifReader",
        "nd2": "importers.nd2_file:Nd2Reader",
        "amira": "importers.amira:AmiraReader",
        "ims": "importers.ims:ImsReader",
        "mib": "importers.mib:MibReader",
        "hdf5": "importers.hdf5:Hdf5Reader",
        "zarr": "importers.zarr_volume:ZarrReader",
        "n5": "importers.n5_volume:N5Reader",
        "image_folder": "importers.image_folder:ImageFolderReader",
    }
)
"""Every kind of volume that can be read, by name."""
