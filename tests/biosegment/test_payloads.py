import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from biosegment.brush import encode_mask
from biosegment.errors import LabelConfigError, SettingsError, TaskError
from biosegment.labels import UNKNOWN, LabelMap, labelling_config
from biosegment.labelstudio.payloads import (
    annotated_masks,
    annotation_regions,
    image_addresses,
    majority,
    prediction_batches,
    prediction_regions,
    shown_tiles,
    task_data,
    the_volume,
    tile_of,
)
from biosegment.tiles import TILES, Tile, tile_image_path

TILE = Tile("vnc", 5, 64, 128, 6, 9)
NAMES = ("background", "mitochondria", "vesicle")
DENSE = LabelMap.from_config(labelling_config(NAMES[1:]))
SPARSE = LabelMap.from_config(labelling_config(NAMES))
BRUSHES = LabelMap.from_config(labelling_config([*NAMES, "golgi"]))

positions = st.integers(0, 2**31)
sizes = st.integers(1, 4096)
volumes = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
tiles = st.builds(Tile, volumes, st.integers(0, 99), positions, positions, sizes, sizes)


def task(*annotations, context=0, depth=12):
    data = task_data(TILE, context=context, depth=depth)
    return {"id": 7, "data": data, "annotations": list(annotations)}


def annotation(*regions, **fields):
    return {"id": 1, "result": list(regions)} | fields


def brush(rows, label="mitochondria", columns=slice(None), **fields):
    """A region that paints some rows and columns of the tile."""
    mask = np.zeros((TILE.height, TILE.width), np.uint8)
    mask[rows, columns] = 255
    (region,) = prediction_regions([(mask > 0).astype(np.uint8)], ["", label], BRUSHES)
    return region | fields


def masks_of(*annotations, label_map=DENSE, context=0):
    return annotated_masks(task(*annotations, context=context), label_map)


def mask_of(*annotations, label_map=DENSE):
    (found,) = masks_of(*annotations, label_map=label_map).items()
    assert found[0] == TILE
    return found[1]


# Tiles and tasks


@given(tiles, st.integers(0, 5), st.integers(1, 100))
def test_a_task_tells_its_tile_and_what_it_shows(tile, context, more):
    depth = tile.z + more
    made = {"id": 1, "data": task_data(tile, context=context, depth=depth)}
    assert tile_of(made) == tile
    shown = shown_tiles(made)
    first, last = max(0, tile.z - context), min(depth, tile.z + context + 1)
    assert shown == [tile.at(z) for z in range(first, last)]
    assert len(image_addresses(made)) == len(shown)


def test_a_task_shows_the_images_that_the_import_writes():
    made = task(context=1)
    expected = [tile_image_path(TILE.at(z)).relative_to(TILES).as_posix() for z in (4, 5, 6)]
    assert image_addresses(made) == [f"/data/local-files/?d={path}" for path in expected]
    assert image_addresses(task()) == [f"/data/local-files/?d={expected[1]}"]


@pytest.mark.parametrize(
    "data",
    [
        {},
        None,
        [],
        {"image": "/data/upload/1/photo.png"},
        {"volume": "vnc", "z": 1, "y": 2, "x": 3, "height": 4},
        {"volume": "vnc", "z": -1, "y": 2, "x": 3, "height": 4, "width": 5},
        {"volume": "vnc", "z": "first", "y": 2, "x": 3, "height": 4, "width": 5},
        {"volume": "vnc", "z": None, "y": 2, "x": 3, "height": 4, "width": 5},
        task_data(TILE, context=1, depth=9) | {"z_first": "x"},
        task_data(TILE, context=1, depth=9) | {"z_first": -1},
        task_data(TILE, context=1, depth=9) | {"slices": 3},
    ],
)
def test_a_task_that_no_import_made_is_named(data):
    with pytest.raises(TaskError, match=r"^Task 7 cannot be used: "):
        shown_tiles({"id": 7, "data": data})


# What annotators say


def test_painted_pixels_have_the_class_and_the_rest_is_background():
    mask = mask_of(annotation(brush(slice(2), columns=slice(3)), brush(5, "vesicle")))
    expected = np.zeros((6, 9), np.uint8)
    expected[:2, :3] = 1
    expected[5] = 2
    np.testing.assert_array_equal(mask, expected)
    assert mask.dtype == np.uint8


def test_where_background_is_painted_the_rest_is_unknown():
    mask = mask_of(annotation(brush(0), brush(1, "background")), label_map=SPARSE)
    assert (mask[0] == 1).all()
    assert (mask[1] == 0).all()
    assert (mask[2:] == UNKNOWN).all()


def test_a_background_brush_that_was_not_used_makes_nothing_unknown():
    mask = mask_of(annotation(brush(0)), label_map=SPARSE)
    assert (mask[0] == 1).all()
    assert (mask[1:] == 0).all()


@pytest.mark.parametrize("label_map", [DENSE, SPARSE])
def test_an_empty_annotation_calls_the_tile_background(label_map):
    assert not mask_of(annotation(), label_map=label_map).any()


def test_a_skipped_task_says_nothing():
    assert masks_of(annotation(brush(0), was_cancelled=True)) == {}
    assert masks_of() == {}
    assert annotated_masks({"id": 7, "data": task()["data"]}, DENSE) == {}


def test_later_regions_win():
    mask = mask_of(annotation(brush(slice(4)), brush(slice(2, 6), "vesicle")))
    assert (mask[:2] == 1).all()
    assert (mask[2:] == 2).all()
    erased = annotation(brush(slice(6)), brush(3, "background"))
    assert (mask_of(erased, label_map=SPARSE)[3] == 0).all()


def test_half_transparent_strokes_count_as_painted():
    region = brush(0)
    region["value"]["rle"] = encode_mask(np.full((6, 9), 1, np.uint8))
    assert mask_of(annotation(region)).all()


def test_the_majority_of_annotators_decides_and_ties_are_unknown():
    one, two, three = (
        annotation(brush(slice(2))),
        annotation(brush(slice(1))),
        annotation(brush(slice(3), "vesicle")),
    )
    skipped = annotation(brush(slice(6)), was_cancelled=True)
    mask = mask_of(one, two, three, skipped)
    assert (mask[0] == 1).all()
    assert (mask[1] == UNKNOWN).all()
    assert (mask[2:] == 0).all()


def test_what_one_annotator_does_not_know_another_one_decides():
    sparse = annotation(brush(0), brush(1, "background"))
    mask = mask_of(sparse, annotation(brush(2)), label_map=SPARSE)
    assert (mask[0] == UNKNOWN).all()
    assert (mask[1] == 0).all()
    assert (mask[2] == 1).all()


@given(
    st.lists(
        st.lists(st.sampled_from([0, 1, 2, UNKNOWN]), min_size=4, max_size=4),
        min_size=1,
        max_size=5,
    )
)
def test_majority_counts_every_pixel(votes):
    result = majority([np.array([each], np.uint8) for each in votes])
    for column in range(4):
        cast = [each[column] for each in votes if each[column] != UNKNOWN]
        most = max(map(cast.count, cast), default=0)
        winners = {value for value in cast if cast.count(value) == most}
        assert result[0, column] == (winners.pop() if len(winners) == 1 else UNKNOWN)


def test_slices_are_labelled_one_by_one():
    masks = masks_of(annotation(brush(0, item_index=0), brush(1, item_index=1)), context=1)
    assert set(masks) == {TILE.at(4), TILE}
    assert (masks[TILE.at(4)][0] == 1).all()
    assert not masks[TILE.at(4)][1:].any()
    assert (masks[TILE][1] == 1).all()


def test_neighbours_that_nobody_painted_are_not_called_background():
    assert set(masks_of(annotation(brush(0, item_index=2)), context=1)) == {TILE, TILE.at(6)}
    assert set(masks_of(annotation(), context=1)) == {TILE}


def test_a_sparse_annotation_says_nothing_of_slices_it_leaves_alone():
    regions = brush(0, "background", item_index=0), brush(1, item_index=2)
    masks = masks_of(annotation(*regions), label_map=SPARSE, context=1)
    assert set(masks) == {TILE.at(4), TILE.at(6)}
    assert (masks[TILE.at(6)][1] == 1).all()
    assert (masks[TILE.at(6)][0] == UNKNOWN).all()


def test_other_kinds_of_regions_are_left_aside():
    choice = {"type": "choices", "value": {"choices": ["blurred"]}, "from_name": "c"}
    rectangle = {"type": "rectanglelabels", "value": {"x": 1}, "original_width": 9}
    mask = mask_of(annotation(choice, rectangle, brush(0)))
    assert mask.sum() == TILE.width


def without(region, key):
    return {name: value for name, value in region.items() if name != key}


@pytest.mark.parametrize(
    ("region", "said"),
    [
        (brush(0, "golgi"), "no label 'golgi'"),
        (brush(0, original_width=8), "8 x 6 px"),
        (brush(0, original_height="tall"), "annotation 1"),
        (brush(0, original_height=None), "annotation 1"),
        (without(brush(0), "original_width"), "original_width"),
        (brush(0, item_index=3), "image 3 of 3"),
        (brush(0, item_index=-1), "image -1 of 3"),
        (brush(0, value={"format": "rle", "rle": [1, 2], "brushlabels": ["vesicle"]}), "header"),
        (brush(0, value={"format": "rle", "rle": [999], "brushlabels": ["vesicle"]}), "0 to 255"),
        (brush(0, value={"format": "rle", "rle": None, "brushlabels": ["vesicle"]}), "list"),
        (brush(0, value={"format": "rle", "rle": brush(0)["value"]["rle"]}), "brushlabels"),
        (
            brush(0, value={"rle": brush(0)["value"]["rle"], "brushlabels": []}),
            "annotation 1",
        ),
        (brush(0, value={"brushlabels": ["vesicle"]}), "rle"),
    ],
)
def test_an_annotation_that_cannot_be_used_is_named(region, said):
    with pytest.raises(TaskError, match=r"^Task 7 cannot be used: annotation 1 ") as caught:
        masks_of(annotation(brush(1), region), context=1)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# Predictions


def random_masks(count, seed=0):
    return list(np.random.default_rng(seed).integers(0, 3, (count, 6, 9), "uint8"))


@pytest.mark.parametrize("context", [0, 1])
def test_a_prediction_that_is_submitted_unchanged_is_what_was_predicted(context):
    masks = random_masks(2 * context + 1)
    regions = prediction_regions(masks, NAMES, DENSE)
    found = masks_of(annotation(*regions), context=context)
    shown = shown_tiles(task(context=context))
    assert list(found) == sorted(found, key=shown.index) or set(found) == set(shown)
    for tile, mask in zip(shown, masks, strict=True):
        np.testing.assert_array_equal(found[tile], mask)


def test_there_is_one_region_for_a_class_and_image():
    regions = prediction_regions(random_masks(3), NAMES, DENSE)
    seen = [(region["item_index"], region["value"]["brushlabels"][0]) for region in regions]
    assert seen == [(i, name) for i in range(3) for name in NAMES[1:]]
    assert len({region["id"] for region in regions}) == 6


def test_regions_belong_to_the_tags_of_the_configuration():
    text = (
        '<View><Image name="img" value="$em"/><BrushLabels name="tag" toName="img">'
        '<Label value="mitochondria"/></BrushLabels></View>'
    )
    (region,) = prediction_regions(
        [np.eye(6, 9, dtype=np.uint8)], NAMES, LabelMap.from_config(text)
    )
    assert (region["from_name"], region["to_name"]) == ("tag", "img")
    assert (region["original_width"], region["original_height"]) == (9, 6)


def test_a_class_that_the_project_no_longer_has_is_left_out():
    only = LabelMap.from_config(labelling_config(["vesicle"]))
    regions = prediction_regions(random_masks(1), NAMES, only)
    assert [region["value"]["brushlabels"] for region in regions] == [["vesicle"]]


def test_an_empty_mask_has_no_region():
    assert prediction_regions([np.zeros((6, 9), np.uint8)], NAMES, DENSE) == []


# Masks to annotations


@pytest.mark.parametrize("context", [0, 1])
def test_masks_become_the_annotation_that_is_read_as_them(context):
    masks = random_masks(2 * context + 1)
    masks[0][2:4, 3:7] = UNKNOWN
    found = masks_of(
        annotation(*annotation_regions(masks, SPARSE)), label_map=SPARSE, context=context
    )
    shown = shown_tiles(task(context=context))
    assert set(found) == set(shown)
    for tile, mask in zip(shown, masks, strict=True):
        np.testing.assert_array_equal(found[tile], mask)


def test_what_is_unknown_stays_so_where_nothing_is_background():
    mask = np.full((TILE.height, TILE.width), UNKNOWN, np.uint8)
    mask[1:3, 2:5] = 1
    regions = annotation_regions([mask], SPARSE)
    np.testing.assert_array_equal(mask_of(annotation(*regions), label_map=SPARSE), mask)


def test_nothing_is_said_of_a_slice_without_a_mask():
    _, target, below = random_masks(3)
    regions = annotation_regions([None, target, below], DENSE)
    assert set(masks_of(annotation(*regions), context=1)) == {TILE, TILE.at(6)}


def test_unknown_pixels_need_a_background_brush():
    (mask,) = random_masks(1)
    mask[0, 0] = UNKNOWN
    with pytest.raises(LabelConfigError, match="background"):
        annotation_regions([mask], DENSE)


def test_one_volume_of_several_has_to_be_chosen():
    one, two = task(), {"data": {"volume": "other"}}
    assert the_volume([one, {"data": {}}], None) == "vnc"
    assert the_volume([one, two], "other") == "other"
    for wanted in (None, "third"):
        with pytest.raises(SettingsError, match="other, vnc"):
            the_volume([one, two], wanted)
    with pytest.raises(SettingsError, match="import one first"):
        the_volume([], None)


def test_many_predictions_without_masks_go_in_one_request_and_few_with():
    masked = [{"task": each, "result": [{}]} for each in range(700)]
    bare = [{"task": each, "result": []} for each in range(700, 9700)]
    batches = list(prediction_batches([*masked, *bare]))
    assert [len(each) for each in batches] == [500, 3200, 5000, 1000]
    assert [each["task"] for batch in batches for each in batch] == list(range(9700))
    assert list(prediction_batches([])) == []
