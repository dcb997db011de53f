"""Bio-Formats, which also reads for Fiji."""

import bioformats_java
import numpy as np
from answers import answer_all, names_of_lines

bioformats_java.start()

from loci.common.services import ServiceFactory  # noqa: E402
from loci.formats import FormatTools, ImageReader  # noqa: E402
from loci.formats.services import OMEXMLService  # noqa: E402
from ome.units import UNITS  # noqa: E402

SERVICE = ServiceFactory().getInstance(OMEXMLService)
TYPES = {"float": "float32", "double": "float64"}


def read(job):
    reader, metadata = ImageReader(), SERVICE.createOMEXMLMetadata()
    reader.setMetadataStore(metadata)
    try:
        reader.setId(job.path)
        names = [metadata.getChannelName(0, c) for c in range(reader.getSizeC())]
        assert reader.getSizeT() == 1
        channel = names.index(job.layer) if len(names) > 1 else 0
        sizes = [getattr(metadata, f"getPixelsPhysicalSize{axis}")(0) for axis in "ZYX"]
        return {
            "voxels": np.stack([plane(reader, channel, z) for z in range(reader.getSizeZ())]),
            "voxel_size_um": [size and size.value(UNITS.MICROMETER) for size in sizes],
            "names": names_of_lines(metadata.getImageDescription(0) or ""),
            "colours": colours(reader),
            "channel": {"name": names[channel], "colour": colour(metadata, channel)},
        }
    finally:
        reader.close()


def plane(reader, channel, z):
    kind = FormatTools.getPixelTypeString(reader.getPixelType())
    dtype = np.dtype(TYPES.get(kind, kind)).newbyteorder("<" if reader.isLittleEndian() else ">")
    voxels = np.frombuffer(bytes(reader.openBytes(reader.getIndex(z, channel, 0))), dtype)
    return voxels.reshape(reader.getSizeY(), reader.getSizeX())


def colour(metadata, channel):
    """Return the one colour of a channel, if it has one."""
    found = metadata.getChannelColor(0, channel)
    return found and [found.getRed(), found.getGreen(), found.getBlue()]


def colours(reader):
    """Return the colours of values that a file has a table of."""
    # Fiji asks for both, and opens no file where that fails.
    table, _ = reader.get8BitLookupTable(), reader.get16BitLookupTable()
    if table is None:
        return {}
    parts = [[part & 255 for part in column] for column in table]
    return {value: colour for value, colour in enumerate(zip(*parts, strict=True)) if any(colour)}


answer_all(read)
