"""Blosc, which reads beyond the end of a chunk that was cut off, with a look at its length first.

References
----------
https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst
"""

import struct
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

import zarr
from numcodecs.blosc import Blosc
from zarr.codecs import BloscCodec
from zarr.core.metadata import ArrayV2Metadata
from zarr.registry import register_codec

_HEADER = struct.Struct("<4x3I")
_MOST_BYTES = 2**31 - 1


def check_frame(content: bytes | memoryview) -> None:
    """Raise ValueError unless all bytes are there that a chunk says it has."""
    if len(content) < _HEADER.size:
        raise ValueError(f"a chunk of Blosc of {len(content)} bytes")
    decoded, _, whole = _HEADER.unpack_from(content)
    if decoded > _MOST_BYTES:
        raise ValueError(f"a chunk of Blosc that holds {decoded} bytes")
    if whole > len(content):
        raise ValueError(f"a chunk of Blosc with {len(content)} of its {whole} bytes")


class CheckedBlosc(Blosc):  # type: ignore[misc]  # numcodecs has no types
    """The codec of Zarr 2, for reading only."""

    def decode(self, buf: Any, out: Any = None) -> Any:  # noqa: ANN401
        """Return what a chunk holds."""
        check_frame(memoryview(buf).cast("B"))
        return super().decode(buf, out)


class CheckedBloscCodec(BloscCodec):
    """The codec of Zarr 3, for reading only."""

    @cached_property
    def _blosc_codec(self) -> Blosc:
        return CheckedBlosc()


register_codec("blosc", CheckedBloscCodec)
CONFIGURATION: Final[Mapping[str, Any]] = {
    "codecs.blosc": f"{CheckedBloscCodec.__module__}.{CheckedBloscCodec.__qualname__}"
}
"""Lets arrays of Zarr 3 that are opened meanwhile use the checked codec."""


def with_checks(array: zarr.Array[Any]) -> zarr.Array[Any]:
    """Return an array whose chunks are checked, be it of Zarr 2 as well."""
    metadata = array.metadata
    if not isinstance(metadata, ArrayV2Metadata) or not isinstance(metadata.compressor, Blosc):
        return array
    checked = replace(metadata, compressor=CheckedBlosc())
    return zarr.Array(zarr.AsyncArray(checked, array.store_path))
