"""Tiles to tasks, masks to predictions, annotations to masks: Label Studio's JSON, and no HTTP.

References
----------
Task format: https://labelstud.io/guide/task_format. Brush regions: ``original_width`` and
``original_height`` in px, ``value.rle`` as `biosegment.brush` describes, ``item_index`` the
position in a list of images.
"""

import json
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote

import numpy as np
import numpy.typing as npt

from biosegment.brush import decode_mask, encode_mask
from biosegment.errors import LabelConfigError, SettingsError, TaskError
from biosegment.labels import BACKGROUND, NO_BACKGROUND, UNKNOWN, LabelMap
from biosegment.tiles import TILES, Tile, context_tiles, tile_image_path

Json = dict[str, Any]
Mask = npt.NDArray[np.uint8]

UNTRAINED: Final = "untrained"
"""Version of predictions that stand where no model is yet."""
MAX_SLICES: Final = 1000
"""Of a task; an import shows 33 at most."""
BATCH: Final = 500
"""Tasks, or predictions with masks, sent in one request."""
BARE: Final = 10
"""Predictions without a mask that are sent in place of one with it: Label Studio looks at all tasks
of a project at every request."""
NEUTRAL_SCORE: Final = 0.5
"""Their score, unless they put a task first."""


def task_data(tile: Tile, *, context: int, depth: int) -> Json:
    """Return the ``data`` of the task that shows a tile: all that is needed to find its pixels.

    Parameters
    ----------
    tile
        What the expert is asked to label.
    context
        Slices shown on either side of it, as far as the volume goes.
    depth
        Number of slices of the volume.

    Returns
    -------
    dict
        ``image``, the address of the tile's PNG, or with context ``slices``, the addresses of all
        slices shown, ``z_first``, the slice that the first of them shows, and ``hint``, which tells
        the expert where to label; besides ``volume``, ``z``, ``y``, ``x``, ``height``, ``width``
        (voxels).
    """
    place = {
        "volume": tile.volume,
        "z": tile.z,
        "y": tile.y,
        "x": tile.x,
        "height": tile.height,
        "width": tile.width,
    }
    if not context:
        return {"image": _address(tile)} | place
    shown = context_tiles(tile, context, depth)
    page = 1 + shown.index(tile)
    hint = (
        f"Label page {page} of {len(shown)} (slice {tile.z}); what you paint on others counts too"
    )
    addresses = [_address(each) for each in shown]
    return {"slices": addresses, "hint": hint} | place | {"z_first": shown[0].z}


def _address(tile: Tile) -> str:
    path = tile_image_path(tile).relative_to(TILES)
    return f"/data/local-files/?d={quote(path.as_posix())}"


def tile_of(task: Mapping[str, Any]) -> Tile:
    """Return the tile that a task asks to label.

    Raises
    ------
    TaskError
        When the task was not made by an import of a volume.
    """
    data = task.get("data") or {}
    try:
        numbers = {key: _index(data[key]) for key in ("z", "y", "x", "height", "width")}
        return Tile(volume=str(data["volume"]), **numbers)
    except (KeyError, TypeError, ValueError) as exc:
        reason = f"its data does not say where in a volume it lies ({exc!r})"
        raise TaskError(task.get("id"), reason) from exc


def the_volume(tasks: Iterable[Mapping[str, Any]], wanted: str | None) -> str:
    """Return the name of the volume that tasks show, or that which is wanted of several.

    Raises
    ------
    SettingsError
        If there are several and none was chosen, or one that is not there.
    """
    names = sorted({str(task["data"]["volume"]) for task in tasks if "volume" in task["data"]})
    if wanted is None and len(names) == 1:
        return names[0]
    if wanted is None or wanted not in names:
        raise SettingsError("--volume", f"is one of {', '.join(names) or 'none: import one first'}")
    return wanted


def shown_tiles(task: Mapping[str, Any]) -> list[Tile]:
    """Return the tiles that a task shows, in the order of its images; the target alone if one.

    Raises
    ------
    TaskError
        As `tile_of`.
    """
    tile = tile_of(task)
    slices = task["data"].get("slices")
    if slices is None:
        return [tile]
    try:
        if len(slices) > MAX_SLICES:
            raise ValueError(f"it has more than {MAX_SLICES}")
        first = _index(task["data"].get("z_first", tile.z))
        return [tile.at(first + i) for i in range(len(slices))]
    except (TypeError, ValueError) as exc:
        raise TaskError(task.get("id"), f"its list of slices is unusable ({exc})") from exc


def image_addresses(task: Mapping[str, Any]) -> list[str]:
    """Return the addresses of the images of a task, in the order of `shown_tiles`."""
    data = task["data"]
    return [str(address) for address in data.get("slices") or [data["image"]]]


def _index(value: object) -> int:
    number = int(str(value))
    if number < 0:
        raise ValueError(f"{number} is negative")
    return number


def prediction_regions(
    masks: Sequence[npt.NDArray[np.uint8]], names: Sequence[str], label_map: LabelMap
) -> list[Json]:
    """Return the brush regions of predicted masks: one a class and image, none for background.

    Parameters
    ----------
    masks : sequence of ndarray of uint8, shape (H, W)
        Class integers, one mask for each image of the task.
    names
        Class names of these integers. A class that the configuration no longer has is left out.
    label_map
        Of the project's labelling configuration.
    """
    regions = []
    for item_index, mask in enumerate(masks):
        for value in np.unique(mask).tolist():
            if value and names[value] in label_map.names:
                region = _region(mask == value, names[value], label_map)
                if len(masks) > 1:
                    region["item_index"] = item_index
                regions.append(region)
    return regions


def annotation_regions(masks: Sequence[Mask | None], label_map: LabelMap) -> list[Json]:
    """Return the brush regions that :func:`annotated_masks` reads as exactly these masks.

    Where a pixel is unknown, background is painted: that makes the annotation sparse. Of a slice
    beside the target that holds nothing but background, nothing can be said if none is unknown.

    Parameters
    ----------
    masks : sequence of ndarray of uint8, shape (H, W)
        For each image of the task class integers of the configuration, or `UNKNOWN` (255); None
        where nothing is to be said.
    label_map
        Of the project's labelling configuration.

    Raises
    ------
    LabelConfigError
        If a pixel is unknown, and the configuration has no brush for background.
    """
    sparse = any(mask is not None and (mask == UNKNOWN).any() for mask in masks)
    if sparse and not label_map.has_background_brush:
        raise LabelConfigError(NO_BACKGROUND)
    regions: list[Json] = []
    for item_index, mask in enumerate(masks):
        if mask is None:
            continue
        painted = np.where(mask == UNKNOWN, np.uint8(0), mask)
        found = prediction_regions([painted], label_map.names, label_map)
        if sparse:
            # Also where no pixel is background: the stroke alone makes the annotation sparse.
            found.insert(0, _region(mask == 0, BACKGROUND, label_map))
        place = {"item_index": item_index} if len(masks) > 1 else {}
        regions += [region | place for region in found]
    return regions


def _region(mask: npt.NDArray[np.bool_], name: str, label_map: LabelMap) -> Json:
    height, width = mask.shape
    return {
        "id": uuid.uuid4().hex[:10],
        "type": "brushlabels",
        "from_name": label_map.control,
        "to_name": label_map.image,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": {
            "format": "rle",
            "rle": encode_mask(mask.astype(np.uint8) * np.uint8(255)),
            "brushlabels": [name],
        },
    }


def untrained_prediction(score: float = NEUTRAL_SCORE) -> Json:
    """Return the prediction, without a mask, of a task that no model has seen."""
    return {"result": [], "score": score, "model_version": UNTRAINED}


def annotated_masks(task: Mapping[str, Any], label_map: LabelMap) -> dict[Tile, Mask]:
    """Return what the annotators of a task say of its slices.

    An annotation that paints ``background`` is sparse: what it leaves unpainted stays unknown.
    Otherwise unpainted is background. A submitted empty annotation calls the target slice
    background; a skipped one says nothing. Later regions win over earlier ones. Several
    annotators: the class most of them give a pixel; unknown where they tie.

    Parameters
    ----------
    task
        A task with its ``annotations``, as Label Studio exports it.
    label_map
        Of the project's labelling configuration.

    Returns
    -------
    dict of Tile to ndarray of uint8, shape (H, W)
        Class integers, `UNKNOWN` (255) where nothing is known; only slices somebody labelled.

    Raises
    ------
    TaskError
        When a region cannot be decoded, has another size than the tile, or a label that the
        configuration does not have.
    """
    tiles = shown_tiles(task)
    target = tile_of(task)
    votes: dict[Tile, list[Mask]] = {}
    for annotation in task.get("annotations") or []:
        if annotation.get("was_cancelled"):
            continue
        try:
            masks = _annotation_masks(annotation, tiles, target, label_map)
        except (LookupError, TypeError, ValueError) as exc:
            reason = f"annotation {annotation.get('id')} is not usable ({exc})"
            raise TaskError(task.get("id"), reason) from exc
        for tile, mask in masks.items():
            votes.setdefault(tile, []).append(mask)
    return {tile: majority(masks) for tile, masks in votes.items()}


def _annotation_masks(
    annotation: Mapping[str, Any], tiles: Sequence[Tile], target: Tile, label_map: LabelMap
) -> dict[Tile, Mask]:
    brushes = [r for r in annotation.get("result") or [] if r.get("type") == "brushlabels"]
    painted = [_painted(region, tiles, label_map) for region in brushes]
    sparse = any(value == 0 for _, value, _ in painted)
    unpainted = UNKNOWN if sparse else 0
    masks: dict[Tile, Mask] = {}
    if not sparse:
        masks[target] = np.zeros((target.height, target.width), np.uint8)
    for tile, value, where in painted:
        mask = masks.setdefault(tile, np.full(where.shape, unpainted, np.uint8))
        mask[where] = value
    return masks


def _painted(
    region: Mapping[str, Any], tiles: Sequence[Tile], label_map: LabelMap
) -> tuple[Tile, int, npt.NDArray[np.bool_]]:
    item_index = int(region.get("item_index") or 0)
    if not 0 <= item_index < len(tiles):
        raise ValueError(f"it paints on image {item_index} of {len(tiles)}")
    tile = tiles[item_index]
    size = (int(region["original_height"]), int(region["original_width"]))
    if size != (tile.height, tile.width):
        raise ValueError(f"it was painted on {size[1]} x {size[0]} px")
    value = region["value"]
    where = decode_mask(value["rle"], size) > 0
    return tile, label_map.index(value["brushlabels"][0]), where


def majority(masks: Sequence[Mask]) -> Mask:
    """Return the class that most masks give each pixel.

    Parameters
    ----------
    masks : sequence of ndarray of uint8, shape (H, W)
        Class integers; `UNKNOWN` (255) casts no vote.

    Returns
    -------
    ndarray of uint8, shape (H, W)
        `UNKNOWN` where nobody votes or two classes tie.
    """
    if len(masks) == 1:
        return masks[0]
    stack = np.stack(masks)
    values = np.unique(stack[stack != UNKNOWN])
    if not values.size:
        return masks[0]
    counts = np.stack([np.count_nonzero(stack == value, axis=0) for value in values])
    most = counts.max(axis=0)
    decided = (np.count_nonzero(counts == most, axis=0) == 1) & (most > 0)
    return np.where(decided, values[counts.argmax(axis=0)], np.uint8(UNKNOWN)).astype(np.uint8)


def project_state(project: Mapping[str, Any], last_change: str) -> Json:
    """Return what tells whether a project changed.

    Parameters
    ----------
    project
        As Label Studio lists it, with its model version and its counts of tasks.
    last_change
        When one of its tasks was last annotated or changed.
    """
    return project_counts(project) | {"last_change": last_change}


def project_counts(project: Mapping[str, Any]) -> Json:
    """Return what the list of projects alone tells of whether a project changed."""
    keys = ("model_version", "task_number", "num_tasks_with_annotations")
    return {key: project[key] for key in keys}


def error_detail(body: object) -> str:
    """Return what an error answer says, in one line."""
    if isinstance(body, str):
        with suppress(ValueError):
            body = json.loads(body)
    if isinstance(body, Mapping):
        errors = body.get("validation_errors")
        if isinstance(errors, Mapping):
            said = "; ".join(f"{field}: {text}" for field, text in errors.items())
        else:
            said = str(body.get("detail", body))
    else:
        said = str(body)
    return " ".join(said.split())[:300] or "no reason given"


def prediction_batches(predictions: Iterable[Json]) -> Iterator[list[Json]]:
    """Yield predictions in order, as many at a time as one request takes: `BATCH` with masks."""
    batch: list[Json] = []
    room = BATCH * BARE
    for each in predictions:
        batch.append(each)
        room -= BARE if each["result"] else 1
        if room <= 0:
            yield batch
            batch, room = [], BATCH * BARE
    if batch:
        yield batch
