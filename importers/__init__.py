"""Reading volumes of other programs into the volume store, and cutting them into tiles."""

from biosegment.registry import LazyRegistry
from importers.base import VolumeReader

READERS: LazyRegistry[type[VolumeReader]] = LazyRegistry(
    {
        "tiff": "importers.tiff:TiffReader",
        "image_folder": "importers.image_folder:ImageFolderReader",
    }
)
"""Every kind of volume that can be read, by name."""
