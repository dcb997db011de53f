"""The pixels that a task shows: from the data root where it is mounted, else from Label Studio."""

import io
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from biosegment.errors import BioSegmentError, TaskError, VolumeNotFoundError
from biosegment.geometry import VoxelSize
from biosegment.labelstudio.client import LabelStudioClient
from biosegment.labelstudio.payloads import image_addresses, shown_tiles, tile_of
from biosegment.settings import Settings
from biosegment.store import VolumeStore
from biosegment.tiles import Tile
from ml_backend.image_cache import ImageCache

MAX_IMAGE_PX: Final = 2**24
"""A larger tile is refused before it is read (4096 x 4096, the largest that an import makes)."""


class TaskImages:
    """Reads the tiles of tasks.

    Parameters
    ----------
    settings
        The data root and its volumes.
    client
        Asked for images of volumes that are not in the data root.
    """

    def __init__(self, settings: Settings, client: LabelStudioClient) -> None:
        self._settings = settings
        self._served = ImageCache(settings.data_root / "cache" / "images", client)
        self._stores: dict[str, VolumeStore] = {}

    def target(self, task: Mapping[str, Any]) -> NDArray[np.float32]:
        """Return the image of the tile that a task asks to label.

        Returns
        -------
        ndarray of float32, shape (H, W), in [0, 1]

        Raises
        ------
        TaskError
            When the task has no tile, or its image is missing or of another size.
        """
        tile = tile_of(task)
        return self.read(task, tile)

    def read(self, task: Mapping[str, Any], tile: Tile) -> NDArray[np.float32]:
        """Return the image of one of the tiles that a task shows, as `target` does."""
        try:
            if tile.height * tile.width > MAX_IMAGE_PX:
                raise ValueError(f"{tile.width} x {tile.height} px are too many")
            store = self._store(tile.volume)
            if store is not None:
                image: NDArray[np.float32] = store.read_unit(tile.roi)[0]
                return image
            address = image_addresses(task)[shown_tiles(task).index(tile)]
            return _decoded(self._served.read(address), tile)
        except TaskError:
            raise
        except (BioSegmentError, KeyError, ValueError, IndexError, OSError) as exc:
            raise TaskError(task.get("id"), f"its image is missing ({exc})") from exc

    def voxel_size(self, volume: str) -> VoxelSize | None:
        """Return the voxel size of a volume, None where the data root does not tell."""
        store = self._store(volume)
        return None if store is None else store.voxel_size

    def _store(self, name: str) -> VolumeStore | None:
        if name not in self._stores:
            with suppress(VolumeNotFoundError):
                self._stores[name] = VolumeStore.open(self._settings.data_root, name)
        return self._stores.get(name)


def _decoded(content: bytes, tile: Tile) -> NDArray[np.float32]:
    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "TIFF")) as image:
            if image.size != (tile.width, tile.height):
                raise ValueError(f"it has {image.size[0]} x {image.size[1]} px")
            grey = np.asarray(image.convert("L"), dtype=np.float32)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as exc:
        raise ValueError("it is not an image of that size") from exc
    return np.divide(grey, np.float32(255))
