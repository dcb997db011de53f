import numpy as np
import pytest
import zarr

from biosegment.errors import ChoiceError, LinkError, UnreadableFileError
from biosegment.geometry import Roi, VoxelSize
from biosegment.store import VolumeStore
from importers.base import Choice
from importers.convert import import_volume
from importers.detect import open_volume
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all
from importers.zarr_volume import ZarrReader

KINDS = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}


def axes_named(names, **units):
    return [
        {"name": name, "type": KINDS[name], **({"unit": units[name]} if name in units else {})}
        for name in names
    ]


def scaled(*scale):
    return [{"type": "scale", "scale": scale}, {"type": "translation", "translation": scale}]


def write_image(path, levels, multiscale, version="0.4", **metadata):
    """Write an image of levels (path: array) with the metadata of a version of OME-Zarr."""
    group = zarr.open_group(path, mode="w", zarr_format=3 if version == "0.5" else 2)
    for name, array in levels.items():
        group.create_array(name, data=array, chunks=tuple(min(size, 16) for size in array.shape))
    described = {"multiscales": [multiscale], **metadata}
    if version == "0.5":
        group.attrs["ome"] = {"version": version, **described}
    else:
        multiscale["version"] = version
        group.attrs.update(described)
    return path


def one_level(axes, scale, **shared):
    return {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}], **shared}


class TestOmeZarr04(ReaderContract):
    reader = ZarrReader

    def write(self, folder, volume, voxel_size):
        micrometres = dict.fromkeys("zyx", "micrometer")
        image = one_level(
            axes_named("tczyx", **micrometres, t="second"),
            scaled(1, 1, *(edge / 1000 for edge in voxel_size.zyx)),
        )
        return write_image(folder / "image.zarr", {"0": volume[None, None]}, image)

    def cut(self, path):
        for chunk in (path / "0").glob("[0-9]*"):
            chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])


class TestOmeZarr05(TestOmeZarr04):
    def write(self, folder, volume, voxel_size):
        image = one_level(
            axes_named("zyx", z="micrometer", y="nanometer", x="angstrom"),
            scaled(voxel_size.z / 1000, 1, 10 * voxel_size.x),
            coordinateTransformations=[{"type": "scale", "scale": [1, voxel_size.y, 1]}],
        )
        return write_image(folder / "image.ome.zarr", {"0": volume}, image, "0.5")

    def cut(self, path):
        for chunk in (path / "0/c").rglob("[0-9]*"):
            if chunk.is_file():
                chunk.write_bytes(chunk.read_bytes()[: chunk.stat().st_size // 2])


@pytest.fixture
def pyramid(tmp_path):
    """Two levels of two channels and three times, axes in an order of their own."""
    full = np.stack([[example("uint16") + 10 * t + c for c in range(2)] for t in range(3)])
    turned = np.einsum("tczyx->cxtyz", full)
    nanometres = dict.fromkeys("zyx", "nanometer")
    image = {
        "name": "cells",
        "axes": axes_named("cxtyz", **nanometres),
        "datasets": [
            {"path": "full", "coordinateTransformations": scaled(1, 4, 1, 5, 40)},
            {"path": "half", "coordinateTransformations": scaled(1, 8, 1, 10, 40)},
        ],
    }
    levels = {"full": turned, "half": turned[:, ::2, :, ::2]}
    colours = {"channels": [{"label": "membrane", "color": "FF0000"}, {"label": "nuclei"}]}
    return write_image(tmp_path / "image.zarr", levels, image, omero=colours)


def test_axes_are_known_by_name_in_any_order(pyramid):
    with open_volume(pyramid, Choice(channel=1, time=2)) as reader:
        reader.check_chosen()
        assert (reader.info.shape, reader.info.voxel_size) == (SHAPE, VOXEL_SIZE)
        assert (reader.info.channels, reader.info.times) == (2, 3)
        assert reader.info.channel_names == ("membrane", "nuclei")
        assert reader.info.metadata["name"] == "cells"
        assert reader.info.chunks == (5, 16, 16)
        roi = Roi(1, 2, 3, 3, 20, 30)
        np.testing.assert_array_equal(reader.read(roi), example("uint16")[roi.slices] + 21)


def test_one_of_several_channels_has_to_be_chosen(pyramid):
    for choice in (Choice(time=0), Choice(time=0, channel=2)):
        with (
            open_volume(pyramid, choice) as reader,
            pytest.raises(ChoiceError, match=r"2 channels .*membrane"),
        ):
            reader.check_chosen()


def test_other_levels_are_chosen_by_their_path(pyramid):
    info = info_of(pyramid, dataset="half")
    assert (info.dataset, info.shape) == ("half", (5, 19, 27))
    assert info.voxel_size == VoxelSize(40, 10, 8)
    assert info_of(pyramid).dataset == "full"
    with pytest.raises(ChoiceError, match=r"2 datasets \(full, half\) and no dataset 1"):
        open_volume(pyramid, Choice(dataset="1"))


def test_a_single_image_is_one_slice_of_unknown_thickness(tmp_path):
    axes = axes_named("yx", y="nanometer", x="nanometer")
    image = one_level(axes, scaled(5, 4))
    path = write_image(tmp_path / "image.zarr", {"0": example("uint8")[0]}, image)
    assert (info_of(path).shape, info_of(path).voxel_size) == ((1, *SHAPE[1:]), None)
    np.testing.assert_array_equal(read_all(path)[0], example("uint8")[0])


@pytest.mark.parametrize(
    ("units", "transformations"),
    [
        ({}, scaled(40, 5, 4)),
        (dict.fromkeys("zyx", "pixel"), scaled(40, 5, 4)),
        (dict.fromkeys("zy", "nanometer"), scaled(40, 5, 4)),
        (dict.fromkeys("zyx", "nanometer"), scaled(40, 0, 4)),
        (dict.fromkeys("zyx", "nanometer"), scaled(40, 5)),
        (dict.fromkeys("zyx", "nanometer"), [{"type": "identity"}]),
        (dict.fromkeys("zyx", "nanometer"), [{"type": "scale", "path": "elsewhere"}]),
    ],
)
def test_a_voxel_size_that_is_not_told_is_unknown(tmp_path, units, transformations):
    image = one_level(axes_named("zyx", **units), transformations)
    path = write_image(tmp_path / "image.zarr", {"0": example("uint8")}, image)
    assert info_of(path).voxel_size is None


@pytest.mark.parametrize("axes", [None, list("tczyx")])
def test_older_versions_name_axes_only_or_not_at_all(tmp_path, axes):
    image = {"datasets": [{"path": "0"}], **({"axes": axes} if axes else {})}
    data = np.stack([example("uint8"), example("uint8") + 1])[None]
    path = write_image(tmp_path / "image.zarr", {"0": data}, image, "0.3" if axes else "0.1")
    np.testing.assert_array_equal(read_all(path, channel=1), example("uint8") + 1)
    assert info_of(path).voxel_size is None


@pytest.mark.parametrize(
    "names", [["z", "y", "y"], ["angle", "y", "x"], ["z", "c", "x"], ["y", "x"], list("czyx")]
)
def test_axes_that_make_no_volume_are_refused(tmp_path, names):
    image = one_level([{"name": name} for name in names], [])
    path = write_image(tmp_path / "image.zarr", {"0": example("uint8")}, image)
    with pytest.raises(UnreadableFileError, match="its axes are"):
        open_volume(path)


@pytest.mark.parametrize(
    "multiscale",
    [
        {"datasets": []},
        {"axes": "zyx"},
        {"datasets": [{"path": "9"}]},
        {"datasets": [{"path": ""}]},
    ],
)
def test_metadata_that_make_no_sense_are_refused(tmp_path, multiscale):
    path = write_image(tmp_path / "image.zarr", {"0": example("uint8")}, multiscale)
    with pytest.raises(UnreadableFileError, match=r"image\.zarr"):
        open_volume(path)


def test_labels_of_the_own_store_are_chosen_by_name(tmp_path):
    store = VolumeStore.create(tmp_path / "own.ome.zarr", SHAPE, "uint8", VOXEL_SIZE)
    store.create_labels("cells", ["cell"])
    mask = (example("uint8") > 100).astype("uint8")
    store.write_labels("cells", Roi.whole(SHAPE), mask)
    store.finish_labels("cells")
    assert info_of(store.path, dataset="labels/cells").voxel_size == VOXEL_SIZE
    assert info_of(store.path, dataset="labels/cells").label_names == {1: "cell"}
    assert info_of(store.path).label_names == {}
    np.testing.assert_array_equal(read_all(store.path, dataset="labels/cells"), mask)
    np.testing.assert_array_equal(read_all(store.path), np.zeros(SHAPE))
    with pytest.raises(ChoiceError, match=r"0, labels/cells\) and no dataset labels/nuclei"):
        open_volume(store.path, Choice(dataset="labels/nuclei"))


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_properties_of_a_label_image_name_its_values(tmp_path, version):
    properties = [
        {"label-value": 0, "name": "nothing"},
        {"label-value": 3, "name": "axon", "area (pixels)": 1200},
        {"label-value": 7, "class": "dendrite"},
        {"label-value": 300, "name": ""},
        {"label-value": "8", "name": "glia"},
        {"name": "soma"},
    ]
    image = one_level(axes_named("zyx"), scaled(1, 1, 1))
    described = {"image-label": {"properties": properties}}
    path = write_image(tmp_path / "a.zarr", {"0": example("uint16")}, image, version, **described)
    assert info_of(path).label_names == {3: "axon"}


@pytest.mark.parametrize("described", [None, {}, {"properties": None}, "labels"])
def test_a_label_image_need_not_name_its_values(tmp_path, described):
    image = one_level(axes_named("zyx"), scaled(1, 1, 1))
    labels = {"image-label": described}
    path = write_image(tmp_path / "a.zarr", {"0": example("uint16")}, image, **labels)
    assert info_of(path).label_names == {}


def test_a_level_in_a_folder_can_stay_where_it_is(tmp_path, pyramid):
    nanometres = axes_named("tzyx", **dict.fromkeys("zyx", "nanometer"))
    image = one_level(nanometres, scaled(1, 40, 5, 4))
    data = np.stack([example("uint8"), example("uint8") + 1])
    path = write_image(tmp_path / "movie.zarr", {"0": data}, image)
    store = import_volume(path, tmp_path / "data", "a", choice=Choice(time=1), link=True)
    np.testing.assert_array_equal(store.read(Roi.whole(SHAPE)), data[1])
    assert store.voxel_size == VOXEL_SIZE
    with pytest.raises(LinkError, match="its axes are cxtyz"):
        import_volume(pyramid, tmp_path / "data", "b", choice=Choice(channel=0, time=0), link=True)


@pytest.mark.parametrize("listed", [True, False])
def test_of_a_collection_of_images_one_is_chosen(tmp_path, listed):
    root = zarr.open_group(tmp_path / "raw.zarr", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    image = one_level(axes_named("zyx"), scaled(1, 1, 1))
    for series, step in (("0", 1), ("1", 2), ("10", 4)):
        data = example("uint8")[:, ::step]
        write_image(tmp_path / "raw.zarr" / series, {"0": data}, dict(image))
    if listed:
        root.create_group("OME").attrs["series"] = ["0", "1", "10"]
    with pytest.raises(ChoiceError, match=r"3 datasets \(0/0, 1/0, 10/0\): choose"):
        open_volume(tmp_path / "raw.zarr")
    for chosen in ("1", "1/0"):
        assert info_of(tmp_path / "raw.zarr", dataset=chosen).shape == (5, 19, 53)
