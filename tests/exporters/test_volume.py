import json
from dataclasses import dataclass, replace

import h5py
import nrrd
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from biosegment.errors import ExportError, LabelsNotFoundError, RegionError, SettingsError
from biosegment.geometry import Box, Roi, VoxelSize
from biosegment.levels import Level
from biosegment.linked import Link
from biosegment.store import VolumeStore, volume_path
from exporters import WRITERS
from exporters.volume import VolumePlan, export_volume

SHAPE = (5, 530, 260)
COARSE = (3, 265, 130)
CLASSES = ("mitochondria", "vesicles")
PLAN = VolumePlan("brain", "tiff")


@dataclass
class Volume:
    """A volume of two levels with its label image ``truth``."""

    root: object
    store: VolumeStore
    image: np.ndarray
    labels: np.ndarray

    def add_labels(self, name, class_names=CLASSES, dtype="uint8"):
        self.store.create_labels(name, class_names, dtype)
        self.store.write_labels(name, Roi.whole(SHAPE), self.labels.astype(dtype))
        self.store.finish_labels(name)


def fill(root, store):
    generator = np.random.default_rng(0)
    image = generator.integers(0, 60_000, SHAPE, "uint16")
    return Volume(root, store, image, generator.integers(0, 3, SHAPE, "uint8"))


@pytest.fixture
def bare(tmp_path):
    """A volume without labels."""
    path = volume_path(tmp_path / "data", "brain")
    store = VolumeStore.create(path, SHAPE, "uint16", VoxelSize(6, 5, 4))
    volume = fill(tmp_path / "data", store)
    store.write(Roi.whole(SHAPE), volume.image)
    for step in store.pyramid_steps():
        store.build_pyramid(*step)
    store.finish((1000, 50_000), {})
    return volume


@pytest.fixture
def volume(bare):
    bare.add_labels("truth")
    return bare


@pytest.fixture
def linked(tmp_path):
    """A volume whose intensities stay in ``brain_image.tif``."""
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "brain_image.tif"
    store_path = volume_path(tmp_path / "data", "brain")
    image = fill(None, None).image
    tifffile.imwrite(path, image, tile=(64, 64))
    store = VolumeStore.create_linked(store_path, Link("tiff", str(path)), VoxelSize(6, 5, 4))
    store.finish((0, 60_000), {})
    volume = fill(tmp_path / "data", store)
    volume.add_labels("truth")
    return volume


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def quiet(*_):
    pass


def export(volume, out, report=quiet, **changes):
    """Export and return what is in the folder, by name; as told, no more and no less."""
    written = export_volume(replace(PLAN, **changes), out, volume.root, report).paths
    assert sorted(written) == sorted(out.iterdir())
    return [path.name for path in written]


def from_tiff(folder, stem):
    for part in ("image", "labels"):
        with tifffile.TiffFile(folder / f"{stem}_{part}.tif") as file:
            yield file.asarray(), file.imagej_metadata["spacing"] * 1000


def from_nrrd(folder, stem):
    for ending in ("image.nrrd", "labels.seg.nrrd"):
        data, header = nrrd.read(str(folder / f"{stem}_{ending}"), index_order="C")
        yield data, header["space directions"][2, 2] * 1e6


def from_ims(folder, stem):
    with h5py.File(folder / f"{stem}.ims") as file:
        facts = file["DataSetInfo/Image"].attrs
        depth, height, width = (int(facts[axis].tobytes()) for axis in "ZYX")
        size = float(facts["ExtMax2"].tobytes()) / depth * 1000
        for channel in (0, 1):
            data = file[f"DataSet/ResolutionLevel 0/TimePoint 0/Channel {channel}/Data"]
            yield data[:depth, :height, :width], size


def from_hdf5(folder, stem):
    with h5py.File(folder / f"{stem}.h5") as file:
        for part in ("image", "labels"):
            yield file[part][:], file[part].attrs["element_size_um"][0] * 1000


def from_ome_zarr(folder, stem):
    for path in ("", "labels/labels"):
        group = zarr.open_group(folder / f"{stem}.ome.zarr", path=path, mode="r")
        level = group.attrs["ome"]["multiscales"][0]["datasets"][0]
        yield group["0"][:], level["coordinateTransformations"][0]["scale"][0]


def from_png(folder, stem):
    for part in ("image", "labels"):
        slices = sorted((folder / f"{stem}_{part}_png").glob("*.png"))
        facts = json.loads((folder / f"{stem}_{part}_png" / "volume.json").read_text())
        yield np.stack([np.array(Image.open(each)) for each in slices]), facts["voxel_size_nm"][0]


FOUND = {
    "png": from_png,
    "tiff": from_tiff,
    "nrrd": from_nrrd,
    "ims": from_ims,
    "hdf5": from_hdf5,
    "ome_zarr": from_ome_zarr,
}


@pytest.mark.parametrize("format", FOUND)
def test_a_whole_volume_goes_out_with_its_labels(volume, out, format):
    export(volume, out, format=format)
    (image, image_z), (labels, labels_z) = FOUND[format](out, "brain")
    np.testing.assert_array_equal(image, volume.image)
    np.testing.assert_array_equal(labels, volume.labels)
    assert (image_z, labels_z) == pytest.approx((6, 6))


@pytest.mark.parametrize("format", FOUND)
def test_a_region_of_a_coarser_level_goes_out(volume, out, format):
    box = Box.parse("1:3,:,7:101")
    export(volume, out, format=format, region=box, level=1)
    found = FOUND[format](out, "brain_level1_z1-3_y0-530_x7-101")
    (image, image_z), (labels, labels_z) = found
    region = (slice(0, 2), slice(None), slice(3, 51))
    np.testing.assert_array_equal(labels, volume.labels[::2, ::2, ::2][region])
    coarse = zarr.open_array(volume.store.path, path="1", mode="r")
    assert coarse.shape == COARSE
    np.testing.assert_array_equal(image, coarse[region])
    assert (image_z, labels_z) == pytest.approx((12, 12))


def test_a_region_of_the_full_resolution_is_exact(volume, out):
    names = export(volume, out, region=Box.parse("2:4,:,100:"))
    assert names == [f"brain_z2-4_y0-530_x100-260_{part}.tif" for part in ("labels", "image")]
    found = tifffile.imread(out / names[1])
    np.testing.assert_array_equal(found, volume.image[2:4, :, 100:])


def test_a_region_outside_is_refused(volume, out):
    with pytest.raises(RegionError):
        export(volume, out, region=Box.parse("2:9,:,:"))
    assert not out.exists()


@pytest.mark.parametrize("format", [*WRITERS])
def test_every_format_names_its_files(volume, out, format):
    writer = WRITERS[format]
    names = export(volume, out, format=format, region=Box.parse("1:3,:20,:30"))
    stem = "brain_z1-3_y0-20_x0-30"
    image = f"{stem}_image{writer.IMAGE_SUFFIX or '.tif'}"
    apart = [f"{stem}_labels{writer.LABELS_SUFFIX}", image]
    assert names == ([f"{stem}{writer.LABELS_SUFFIX}"] if writer.TOGETHER else apart)


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"image": False}, ["brain_labels.tif"]),
        ({"labels": "none"}, ["brain_image.tif"]),
        ({"labels": "none", "format": "ims"}, ["brain_image.ims"]),
        ({"image": False, "format": "mib"}, ["brain_labels.model"]),
    ],
)
def test_intensities_or_labels_can_be_left_out(volume, out, changes, names):
    assert export(volume, out, **changes) == names


def test_a_volume_without_labels_goes_out_alone(bare, out):
    assert export(bare, out) == ["brain_image.tif"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": False}, r"--no-image leaves nothing to write"),
        ({"format": "mib"}, r"--format is mib, which holds labels only"),
        ({"format": "psd"}, r"--format is one of amira, .*, not psd"),
    ],
)
def test_there_must_be_something_to_write(bare, out, changes, said):
    for labels in (None, "none"):
        with pytest.raises(SettingsError, match=said):
            export(bare, out, labels=labels, **changes)
    assert not out.exists()


def test_one_of_several_label_images_is_chosen(volume, out):
    volume.add_labels("other", ["cell"], "uint16")
    with pytest.raises(SettingsError, match="--labels is needed, for brain has other, truth; none"):
        export(volume, out)
    with pytest.raises(LabelsNotFoundError, match="it has: other, truth"):
        export(volume, out, labels="others")
    export(volume, out, labels="other", format="hdf5")
    with h5py.File(out / "brain.h5") as file:
        assert file["labels"].dtype == np.uint16
        assert file["labels"].attrs["label_names"] == '{"1": "cell"}'


def test_labels_that_the_format_cannot_hold_leave_nothing(volume, out):
    volume.add_labels("objects", [], "uint32")
    with pytest.raises(ExportError, match=r"brain_labels\.tif .* objects is uint32"):
        export(volume, out, labels="objects")
    assert not out.exists()
    assert export(volume, out, labels="objects", format="nifti") == [
        "brain_labels.nii.gz",
        "brain_image.nii.gz",
    ]


def colours_of(path):
    header = nrrd.read_header(str(path))
    return {
        header[f"Segment{number}_Name"]: [
            float(part) for part in header[f"Segment{number}_Color"].split()
        ]
        for number in range(len(CLASSES))
    }


def test_classes_have_names_and_colours(volume, out):
    export(volume, out, format="nrrd")
    found = colours_of(out / "brain_labels.seg.nrrd")
    # The first two of the palette.
    assert found["mitochondria"] == pytest.approx([0xEE / 255, 0x77 / 255, 0x33 / 255], abs=1e-5)
    assert found["vesicles"] == pytest.approx([0, 0x77 / 255, 0xBB / 255], abs=1e-5)


def test_colours_of_the_label_image_come_first(volume, out):
    group = zarr.open_group(volume.store.path / "labels/truth")
    ome = group.attrs["ome"]
    ome["image-label"]["colors"] = [{"label-value": 1, "rgba": [255, 0, 51, 255]}]
    group.attrs["ome"] = ome
    export(volume, out, format="nrrd")
    found = colours_of(out / "brain_labels.seg.nrrd")
    assert found["mitochondria"] == pytest.approx([1, 0, 0.2])
    assert found["vesicles"] == pytest.approx([0, 0x77 / 255, 0xBB / 255], abs=1e-5)


def test_black_and_white_are_those_of_the_volume(volume, out):
    export(volume, out, region=Box.parse("0:1,:,:"))
    with tifffile.TiffFile(out / "brain_z0-1_y0-530_x0-260_image.tif") as file:
        assert (file.imagej_metadata["min"], file.imagej_metadata["max"]) == (1000, 50_000)


def test_a_level_that_is_not_there_is_refused(volume, out):
    with pytest.raises(SettingsError, match="--level is 2, and the coarsest of brain is 1"):
        export(volume, out, level=2)


def test_a_linked_volume_has_no_coarser_levels(linked, out):
    with pytest.raises(SettingsError, match="--level is 1, and brain is linked"):
        export(linked, out, level=1)
    assert export(linked, out, level=1, image=False) == ["brain_level1_labels.tif"]
    found = tifffile.imread(out / "brain_level1_labels.tif")
    np.testing.assert_array_equal(found, linked.labels[::2, ::2, ::2])


def test_a_linked_volume_goes_out(linked, out):
    export(linked, out)
    np.testing.assert_array_equal(tifffile.imread(out / "brain_image.tif"), linked.image)


def test_levels_that_do_not_fit_each_other_go_out_apart(tmp_path, out):
    store = VolumeStore.create(volume_path(tmp_path / "data", "brain"), SHAPE, "uint16")
    volume = fill(tmp_path / "data", store)
    store.finish((0, 1), {})
    store.set_voxel_size(VoxelSize(6, 5, 4))
    volume.add_labels("truth")
    with pytest.raises(SettingsError, match="truth has another size than the intensities"):
        export(volume, out, level=1)
    assert export(volume, out, level=1, image=False) == ["brain_level1_labels.tif"]
    assert tifffile.imread(out / "brain_level1_labels.tif").shape == COARSE


def test_what_is_there_already_stays_unless_forced(volume, out):
    out.mkdir()
    (out / "brain_labels.tif").write_bytes(b"painted")
    with pytest.raises(SettingsError, match=r"has brain_labels\.tif already, which --force"):
        export(volume, out)
    assert [path.read_bytes() for path in out.iterdir()] == [b"painted"]
    export(volume, out, force=True)
    np.testing.assert_array_equal(tifffile.imread(out / "brain_labels.tif"), volume.labels)


def test_volumes_and_sources_are_never_replaced(volume):
    for folder in ("volumes", "volumes/brain.ome.zarr", "volumes/new"):
        with pytest.raises(SettingsError, match="where the volumes of the data folder are"):
            export(volume, volume.root / folder, format="hdf5", force=True)
    np.testing.assert_array_equal(volume.store.read(Roi.whole(SHAPE)), volume.image)


def test_the_source_of_a_linked_volume_stays(linked):
    folder = linked.root.parent / "raw"
    with pytest.raises(SettingsError, match=r"brain_image\.tif, to which brain is linked"):
        export(linked, folder, force=True)
    assert [path.name for path in folder.iterdir()] == ["brain_image.tif"]


def test_objects_have_a_name_of_their_own_where_the_format_has(volume, out):
    volume.add_labels("objects", [], "uint32")
    options = {"labels": "objects", "image": False}
    assert export(volume, out, format="nrrd", **options) == ["brain_labels.nrrd"]
    found, _ = nrrd.read(str(out / "brain_labels.nrrd"), index_order="C")
    np.testing.assert_array_equal(found, volume.labels)


def test_a_folder_may_be_called_like_what_is_in_it(volume, tmp_path):
    out = tmp_path / "slices_png"
    assert export(volume, out, format="png", image=False) == ["brain_labels_png"]


@pytest.mark.parametrize("name", ["brain.nrrd", "labels.seg.nrrd"])
def test_a_name_of_a_file_is_no_folder(volume, out, name):
    with pytest.raises(SettingsError, match=f"--out is .*{name}, a file by its name"):
        export(volume, out / name, format="nrrd")
    assert not out.exists()


@pytest.mark.parametrize("format", [*WRITERS])
def test_reads_one_slice_at_a_time(volume, out, monkeypatch, format):
    read, regions = Level.read, []

    def spy(level, roi):
        regions.append(roi)
        return read(level, roi)

    monkeypatch.setattr(Level, "read", spy)
    export(volume, out, format=format, region=Box.parse(":,:40,:50"))
    assert {roi.z for roi in regions} == set(range(SHAPE[0]))
    assert {roi.depth for roi in regions} == {1}
    # Of single objects no more is read than the box around them.
    assert max(roi.shape for roi in regions) == (1, 40, 50)


def test_progress_counts_slices(volume, out):
    told = []
    export(volume, out, lambda *now: told.append(now), format="hdf5")
    assert told == [
        (f"writing {part}", done, SHAPE[0])
        for part in ("intensities", "labels")
        for done in range(1, SHAPE[0] + 1)
    ]


def test_progress_tells_when_slices_are_read_again(volume, out):
    told = []
    export(volume, out, lambda *now: told.append(now), format="nrrd", image=False)
    assert told == [
        (stage, done, SHAPE[0])
        for stage in ("writing labels", "writing labels, pass 2")
        for done in range(1, SHAPE[0] + 1)
    ]


@pytest.mark.parametrize("format", ["tiff", "ims", "ome_zarr"])
def test_what_is_interrupted_leaves_nothing(volume, out, format):
    def interrupt(stage, done, total):
        # Labels are through in some formats, intensities in others.
        told.add(stage)
        if len(told) == 2 and done == 3:
            raise KeyboardInterrupt

    told = set()
    with pytest.raises(KeyboardInterrupt):
        export(volume, out, interrupt, format=format)
    assert list(out.iterdir()) == []
