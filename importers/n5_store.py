"""N5 as Zarr: a store whose documents are made of N5's, and whose chunks are its blocks."""

import asyncio
import json
from typing import Any

from zarr.abc.buffer import Buffer
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import BufferPrototype
from zarr.storage import WrapperStore

from importers.n5_dataset import N5Dataset

ATTRIBUTES = "attributes.json"
_ZARR_DOCUMENT = "zarr.json"


class N5Store(WrapperStore[Store]):
    """A store of N5, seen as one of Zarr 3; arrays keep N5's order of axes."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._datasets: dict[str, N5Dataset] = {}

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Return a document or a decoded block, None if there is neither."""
        folder, _, name = key.rpartition("/")
        if name == _ZARR_DOCUMENT:
            return await self._document(folder, prototype)
        content = await self._store.get(key, prototype)
        if content is None:
            return None
        decoded = await asyncio.to_thread(self._dataset_of(key).decode, content.to_bytes())
        return prototype.buffer.from_bytes(decoded)

    async def _document(self, folder: str, prototype: BufferPrototype) -> Buffer | None:
        """Return what Zarr would say of a folder, None if it is none of N5."""
        content = await self._store.get(f"{folder}/{ATTRIBUTES}".lstrip("/"), prototype)
        if content is None and not (folder and await self._has_members(folder)):
            return None
        attributes: dict[str, Any] = {} if content is None else json.loads(content.to_bytes())
        dataset = N5Dataset.of(attributes)
        if dataset is None:
            document = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
        else:
            self._datasets[folder] = dataset
            document = dataset.zarr_document(attributes)
        return prototype.buffer.from_bytes(json.dumps(document).encode())

    async def _has_members(self, folder: str) -> bool:
        """Return whether a folder has any entry, for a group may lack attributes."""
        async for _ in self._store.list_dir(folder):
            return True
        return False

    def _dataset_of(self, key: str) -> N5Dataset:
        """Return the dataset that a block belongs to; it was looked at before its blocks are."""
        parts = key.split("/")
        above = ("/".join(parts[:count]) for count in range(len(parts)))
        return next(self._datasets[folder] for folder in above if folder in self._datasets)
