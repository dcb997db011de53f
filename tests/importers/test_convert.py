import multiprocessing
import resource
import shutil
import signal

import h5py
import numpy as np
import pytest
import tifffile

from biosegment.errors import (
    ChoiceError,
    DiskFullError,
    LabelsMismatchError,
    UnreadableFileError,
    VolumeExistsError,
    VolumeNameError,
    VolumeNotFoundError,
    VoxelSizeError,
)
from biosegment.geometry import Roi, VoxelSize
from biosegment.store import VolumeStore
from importers.base import Choice
from importers.convert import import_labels, import_volume
from importers.hdf5 import Hdf5Reader
from importers.testing import SHAPE, example


def write(path, volume):
    tifffile.imwrite(path, volume, photometric="minisblack")
    return path


def everything(store):
    return store.read(Roi.whole(store.shape))


def left_over(data_root):
    """Return what a failed import left behind, the lock aside."""
    files = (path for path in data_root.rglob("*") if path.is_file())
    return [path for path in files if path.suffix != ".lock"]


def test_a_stack_is_stored_as_it_was_recorded(sample_stack, tmp_path):
    store = import_volume(sample_stack.raw, tmp_path, "stack")
    np.testing.assert_array_equal(everything(store), tifffile.imread(sample_stack.raw))
    assert store.voxel_size.y == pytest.approx(4.6)
    assert store.source["name"] == sample_stack.raw.name


def test_the_window_spans_nearly_all_intensities(sample_stack, tmp_path):
    black, white = import_volume(sample_stack.raw, tmp_path, "stack").window
    raw = tifffile.imread(sample_stack.raw)
    shown = (raw >= black) & (raw <= white)
    assert 0.99 < shown.mean() < 1


def test_progress_is_told_slice_by_slice(tmp_path):
    told = []
    import_volume(
        write(tmp_path / "a.tif", example("uint8")),
        tmp_path,
        "a",
        lambda *told_now: told.append(told_now),
    )
    assert told == [(done, 5) for done in range(6)]


def test_the_same_import_again_changes_nothing(tmp_path):
    source = write(tmp_path / "a.tif", example("uint8"))
    store = import_volume(source, tmp_path, "a")
    before = {path: path.stat().st_mtime_ns for path in store.path.rglob("*")}
    copy = shutil.copyfile(source, tmp_path / "copied elsewhere.tif")
    again = import_volume(copy, tmp_path, "a")
    np.testing.assert_array_equal(everything(again), example("uint8"))
    assert {path: path.stat().st_mtime_ns for path in store.path.rglob("*")} == before


def test_another_source_does_not_take_a_name(tmp_path):
    import_volume(write(tmp_path / "a.tif", example("uint8")), tmp_path, "a")
    other = write(tmp_path / "b.tif", example("uint8")[:, ::-1])
    with pytest.raises(VolumeExistsError, match=r"a\.tif, 5 x 37 x 53"):
        import_volume(other, tmp_path, "a")
    np.testing.assert_array_equal(everything(VolumeStore.open(tmp_path, "a")), example("uint8"))


@pytest.mark.parametrize("name", ["../a", "", "a/b", ".hidden", "a b", "a" * 101])
def test_a_name_that_is_no_name_is_refused(tmp_path, name):
    source = write(tmp_path / "a.tif", example("uint8"))
    with pytest.raises(VolumeNameError):
        import_volume(source, tmp_path / "data", name)
    assert not (tmp_path / "data").exists()


def files_of(store):
    """Return the content of every file of a volume."""
    return {
        path.relative_to(store.path): path.read_bytes()
        for path in store.path.rglob("*")
        if path.is_file()
    }


def interrupt_at(block):
    def progress(done, total):
        if done == block:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("block", [0, 3, 6, 9])
def test_an_interrupted_import_goes_on_where_it_stopped(tmp_path, block):
    volume = np.random.default_rng(0).integers(0, 256, (6, 600, 20), "uint8")
    source = write(tmp_path / "a.tif", volume)
    with pytest.raises(KeyboardInterrupt):
        import_volume(source, tmp_path / "data", "a", interrupt_at(block))
    with pytest.raises(VolumeNotFoundError):
        VolumeStore.open(tmp_path / "data", "a")
    told = []
    store = import_volume(source, tmp_path / "data", "a", lambda *now: told.append(now))
    assert told == [(done, 12) for done in range(block, 13)]
    np.testing.assert_array_equal(everything(store), volume)
    whole = import_volume(source, tmp_path / "other", "a")
    assert files_of(store) == files_of(whole)


def test_what_another_source_left_is_not_gone_on_with(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        import_volume(
            write(tmp_path / "b.tif", example("uint8")[:, ::-1]), tmp_path, "a", interrupt_at(3)
        )
    store = import_volume(write(tmp_path / "a.tif", example("uint8")), tmp_path, "a")
    np.testing.assert_array_equal(everything(store), example("uint8"))


def test_large_slices_pass_in_bands(tmp_path, monkeypatch):
    monkeypatch.setattr("importers.convert._LARGE_SLICE_BYTES", 2**16)
    volume = np.random.default_rng(0).integers(0, 256, (2, 4500, 20), "uint8")
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, volume, photometric="minisblack", tile=(16, 16))
    store = import_volume(source, tmp_path / "data", "a")
    np.testing.assert_array_equal(everything(store), volume)


def test_blocks_that_reach_over_slices_are_decoded_once(tmp_path, monkeypatch):
    volume = np.random.default_rng(0).integers(0, 256, (10, 40, 50), "uint8")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=volume, chunks=(4, 8, 8))
    regions = []

    def noted(reader, roi):
        regions.append(roi)
        return read(reader, roi)

    read = Hdf5Reader.read
    monkeypatch.setattr(Hdf5Reader, "read", noted)
    for most, depths in ((2**27, [4, 4, 2]), (6000, [3, 3, 3, 1]), (10, [1] * 10)):
        monkeypatch.setattr("importers.convert._TOGETHER_BYTES", most)
        regions.clear()
        store = import_volume(tmp_path / "a.h5", tmp_path / str(most), "a")
        np.testing.assert_array_equal(everything(store), volume)
        assert [roi.depth for roi in regions] == depths


def test_a_page_that_turns_out_damaged_leaves_nothing(tmp_path):
    source = tmp_path / "a.tif"
    tifffile.imwrite(source, example("uint8"), photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(source) as tiff:
        start = tiff.pages[3].dataoffsets[0]
    content = bytearray(source.read_bytes())
    content[start + 5 : start + 60] = bytes(55)
    source.write_bytes(content)
    with pytest.raises(UnreadableFileError, match="slice 3"):
        import_volume(source, tmp_path / "data", "a")
    assert left_over(tmp_path / "data") == []


def _import_killed_at(block, source, data_root):
    def die(done, total):
        if done == block:
            signal.raise_signal(signal.SIGKILL)

    import_volume(source, data_root, "a", die)


def _import_with_little_room(source, data_root, outcome):
    # The system refuses to let a file grow, as it does on a full disk.
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
    try:
        import_volume(source, data_root, "a")
    except DiskFullError as exc:
        outcome.send((str(exc), left_over(data_root)))
    else:
        outcome.send(("imported", []))


def in_a_process(target, *arguments):
    process = multiprocessing.get_context("spawn").Process(target=target, args=arguments)
    process.start()
    process.join(60)
    return process.exitcode


def test_a_killed_import_goes_on_where_it_stopped(tmp_path):
    source = write(tmp_path / "a.tif", example("uint8"))
    assert in_a_process(_import_killed_at, 3, source, tmp_path / "data") == -signal.SIGKILL
    partial = tmp_path / "data/volumes/.importing/a.ome.zarr"
    (partial / "0/c/3").mkdir()
    (partial / "0/c/3/0.0123.partial").touch()
    told = []
    store = import_volume(source, tmp_path / "data", "a", lambda *now: told.append(now))
    assert told[0] == (3, 5)
    assert files_of(store) == files_of(import_volume(source, tmp_path / "other", "a"))
    assert list((tmp_path / "data/volumes/.importing").glob("*.zarr")) == []


def test_a_full_disk_is_said_plainly_and_leaves_nothing(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (2, 300, 300), "uint8")
    source = write(tmp_path / "a.tif", noise)
    receive, send = multiprocessing.Pipe(duplex=False)
    in_a_process(_import_with_little_room, source, tmp_path / "data", send)
    said, left = receive.recv()
    assert "Nothing more can be written" in said
    assert "free some space" in said
    assert left == []


def test_labels_of_one_class_are_whatever_is_above_0(sample_stack, tmp_path):
    store = import_volume(sample_stack.raw, tmp_path, "stack")
    import_labels(sample_stack.labels, store, "truth", ["mitochondria"])
    labels = store.read_labels("truth", Roi.whole(store.shape))
    np.testing.assert_array_equal(labels, tifffile.imread(sample_stack.labels) > 0)
    assert store.class_names("truth") == ("mitochondria",)
    assert 0.01 < labels.mean() < 0.2


@pytest.fixture
def store(tmp_path):
    return import_volume(write(tmp_path / "a.tif", example("uint8")), tmp_path, "a")


def test_labels_of_several_classes_keep_their_values(store, tmp_path):
    classes = np.random.default_rng(0).integers(0, 3, SHAPE).astype("uint16")
    import_labels(write(tmp_path / "l.tif", classes), store, "truth", ["vesicle", "membrane"])
    np.testing.assert_array_equal(store.read_labels("truth", Roi.whole(SHAPE)), classes)


def test_the_same_labels_again_are_not_copied(store, tmp_path):
    source = write(tmp_path / "l.tif", example("uint8") > 100)
    import_labels(source, store, "truth", ["cell"])
    told = []
    import_labels(source, store, "truth", ["cell"], lambda *now: told.append(now))
    assert told == []


def test_corrected_labels_replace_the_old_ones(store, tmp_path):
    import_labels(write(tmp_path / "l.tif", example("uint8") > 100), store, "truth", ["cell"])
    better = example("uint8") > 120
    import_labels(write(tmp_path / "l.tif", better), store, "truth", ["cell"])
    np.testing.assert_array_equal(store.read_labels("truth", Roi.whole(SHAPE)), better)


def test_interrupted_labels_are_not_listed(store, tmp_path):
    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    source = write(tmp_path / "l.tif", example("uint8") > 100)
    with pytest.raises(KeyboardInterrupt):
        import_labels(source, store, "truth", ["cell"], interrupt)
    assert store.label_names == ()


def test_labels_of_another_shape_are_refused(store, tmp_path):
    source = write(tmp_path / "l.tif", np.zeros((5, 37, 50), "uint8"))
    with pytest.raises(
        LabelsMismatchError, match="5 x 37 x 50 voxels, the volume 'a' is 5 x 37 x 53"
    ):
        import_labels(source, store, "truth", ["cell"])


def test_a_value_without_a_class_is_refused(store, tmp_path):
    source = write(tmp_path / "l.tif", np.full(SHAPE, 3, "uint8"))
    with pytest.raises(LabelsMismatchError, match="the value 3, and 2 classes were named"):
        import_labels(source, store, "truth", ["vesicle", "membrane"])
    assert store.label_names == ()


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "float32"])
def test_every_type_is_kept_and_shown_over_the_full_range(tmp_path, dtype):
    volume = (example("int32") * 10 - 500).clip(0 if dtype[0] == "u" else None).astype(dtype)
    store = import_volume(write(tmp_path / "a.tif", volume), tmp_path, "a")
    assert store.dtype == volume.dtype
    np.testing.assert_array_equal(everything(store), volume)
    unit = store.read_unit(Roi.whole(SHAPE))
    assert unit.min() == 0
    assert unit.max() == 1


def test_two_processes_that_import_the_same_at_once_both_succeed(tmp_path):
    source = write(tmp_path / "a.tif", np.tile(example("uint8"), (8, 4, 4)))
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        stores = pool.starmap(import_volume, [(source, tmp_path / "data", "a")] * 2)
    assert stores[0].shape == stores[1].shape == (40, 148, 212)


def test_masks_that_are_stored_inverted_are_labels_as_they_are(store, tmp_path):
    # How tifffile stores masks, and ImageJ those on a white background.
    tifffile.imwrite(tmp_path / "l.tif", example("uint8") > 100, photometric="miniswhite")
    import_labels(tmp_path / "l.tif", store, "truth", ["cell"])
    labels = store.read_labels("truth", Roi.whole(SHAPE))
    np.testing.assert_array_equal(labels, example("uint8") > 100)


def write_channels(path, **metadata):
    channels = np.stack([example("uint8"), 255 - example("uint8")])
    tifffile.imwrite(path, channels, metadata={"axes": "CZYX", **metadata})
    return path


def test_a_channel_has_to_be_chosen_and_is_another_volume(tmp_path):
    source = write_channels(tmp_path / "a.ome.tif")
    with pytest.raises(ChoiceError, match="--channel"):
        import_volume(source, tmp_path, "a")
    store = import_volume(source, tmp_path, "a", choice=Choice(channel=1))
    np.testing.assert_array_equal(everything(store), 255 - example("uint8"))
    with pytest.raises(VolumeExistsError):
        import_volume(source, tmp_path, "a", choice=Choice(channel=0))
    import_volume(source, tmp_path, "a", choice=Choice(channel=1))


def write_with_voxels(path, unit):
    sizes = {f"PhysicalSize{axis}": size for axis, size in zip("ZYX", (40, 5, 4), strict=True)}
    units = {f"PhysicalSize{axis}Unit": unit for axis in "ZYX"}
    metadata = {"axes": "ZYX", **sizes, **units, "Name": "cortex"}
    tifffile.imwrite(path, example("uint8"), metadata=metadata)
    return path


def test_the_voxel_size_that_is_given_counts_more_than_that_of_the_file(tmp_path):
    source = write_with_voxels(tmp_path / "a.ome.tif", "nm")
    store = import_volume(source, tmp_path, "a", voxel_size=VoxelSize(30, 4, 4))
    assert store.voxel_size == VoxelSize(30, 4, 4)
    assert import_volume(source, tmp_path, "a").voxel_size == VoxelSize(30, 4, 4)


def test_a_voxel_size_given_later_is_set_without_copying(tmp_path):
    source = write(tmp_path / "a.tif", example("uint8"))
    assert import_volume(source, tmp_path, "a").voxel_size is None
    told = []
    store = import_volume(
        source, tmp_path, "a", lambda *now: told.append(now), voxel_size=VoxelSize(40, 5, 5)
    )
    assert told == []
    assert store.voxel_size == VolumeStore.open(tmp_path, "a").voxel_size == VoxelSize(40, 5, 5)


def test_an_implausible_voxel_size_is_refused_unless_another_is_given(tmp_path):
    source = write_with_voxels(tmp_path / "a.ome.tif", "mm")
    with pytest.raises(VoxelSizeError, match=r"in a\.ome\.tif .*below 100 µm.*--voxel-size"):
        import_volume(source, tmp_path / "data", "a")
    assert left_over(tmp_path / "data") == []
    store = import_volume(source, tmp_path / "data", "a", voxel_size=VoxelSize(40, 5, 4))
    assert store.voxel_size == VoxelSize(40, 5, 4)


def test_what_the_source_tells_of_the_acquisition_is_kept(tmp_path):
    import_volume(write_with_voxels(tmp_path / "a.ome.tif", "nm"), tmp_path, "a")
    source = VolumeStore.open(tmp_path, "a").source
    assert source["metadata"]["Name"] == "cortex"
    assert source["notices"] == []


def test_a_voxel_size_is_carried_over(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif",
        example("uint8"),
        imagej=True,
        resolution=(250, 200),
        metadata={"axes": "ZYX", "spacing": 0.04, "unit": "um"},
    )
    store = import_volume(tmp_path / "a.tif", tmp_path, "a")
    assert store.voxel_size.zyx == pytest.approx((40, 5, 4))
