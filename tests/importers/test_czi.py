import struct
import sys

import numpy as np
import pytest
from pylibCZIrw import czi

from biosegment.errors import ChoiceError, MissingExtraError, UnreadableFileError
from importers.czi import CziReader
from importers.detect import open_volume
from importers.testing import SHAPE, VOXEL_SIZE, ReaderContract, example, info_of, read_all


class TestCzi(ReaderContract):
    reader = CziReader
    dtypes = ("uint8", "uint16", "float32")

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.czi", volume)


class TestUncompressedCzi(ReaderContract):
    reader = CziReader

    def write(self, folder, volume, voxel_size):
        return write(folder / "stack.czi", volume, compression="uncompressed:")


def write(path, *channels, compression="zstd1:ExplicitLevel=2", skip=(), scale=1e-9, **options):
    """Write volumes (z, y, x) with Zeiss's library, each as a channel; None for no voxel size."""
    with czi.create_czi(str(path), compression_options=compression) as document:
        for c, volume in enumerate(channels):
            for z in set(range(len(volume))) - set(skip):
                pixels = volume[z] if volume.ndim == 4 else volume[z][..., None]
                document.write(data=pixels, plane={"Z": z, "C": c, "T": 0}, **options)
        names = {c: f"detector {c}" for c in range(len(channels))}
        edges = {f"scale_{axis}": getattr(VOXEL_SIZE, axis) * scale for axis in "zyx"}
        document.write_metadata(document_name="cells", channel_names=names, **edges)
    return path


def test_channels_are_chosen_by_number_and_known_by_name(tmp_path):
    path = write(tmp_path / "stack.czi", example("uint16"), example("uint16") + 1)
    info = info_of(path)
    assert (info.channels, info.channel_names) == (2, ("detector 0", "detector 1"))
    assert info.metadata["software"] == "pylibCZIrw"
    np.testing.assert_array_equal(read_all(path, channel=1), example("uint16") + 1)


def test_colours_are_channels(tmp_path):
    samples = np.stack([example("uint8") + shift for shift in range(3)], axis=-1)
    path = write(tmp_path / "stack.czi", samples)
    assert info_of(path).channel_names == ("blue", "green", "red")
    np.testing.assert_array_equal(read_all(path, channel=2), samples[..., 2])


def test_tiles_of_a_mosaic_are_joined_wherever_they_lie(tmp_path):
    path = tmp_path / "stack.czi"
    volume = example("uint16")
    with czi.create_czi(str(path)) as document:
        for z in range(len(volume)):
            for y, x in ((0, 0), (0, 30), (20, 0), (20, 30)):
                tile = np.ascontiguousarray(volume[z, y : y + 20, x : x + 30])[..., None]
                document.write(data=tile, plane={"Z": z}, location=(x - 100, y + 7))
        document.write_metadata(document_name="cells")
    np.testing.assert_array_equal(read_all(path), volume)
    assert info_of(path).voxel_size is None


def test_one_of_several_scenes_has_to_be_chosen(tmp_path):
    path = tmp_path / "stack.czi"
    volume = example("uint8")
    with czi.create_czi(str(path)) as document:
        for scene, part in enumerate((volume, volume[:3, :20])):
            for z, pixels in enumerate(part):
                place = (1000 * scene, 0)
                data = pixels[..., None]
                document.write(data=data, plane={"Z": z}, location=place, scene=scene)
        document.write_metadata(document_name="cells")
    for wanted in (None, "2", "first"):
        with pytest.raises(ChoiceError, match=r"2 datasets \(0, 1\)"):
            info_of(path, dataset=wanted)
    assert info_of(path, dataset="0").shape == SHAPE
    assert info_of(path, dataset="1").shape == (3, 20, 53)
    np.testing.assert_array_equal(read_all(path, dataset="1"), volume[:3, :20])


@pytest.mark.parametrize("scale", [0, -1e-9])
def test_an_impossible_voxel_size_is_unknown(tmp_path, scale):
    assert info_of(write(tmp_path / "stack.czi", example("uint8"), scale=scale)).voxel_size is None


def test_a_missing_slice_is_noticed(tmp_path):
    path = write(tmp_path / "stack.czi", example("uint8"), skip=[2])
    with pytest.raises(UnreadableFileError, match="should hold 5 images and holds 4"):
        open_volume(path)


def test_a_file_without_an_image_is_refused(tmp_path):
    path = write(tmp_path / "stack.czi", example("uint8"), skip=range(5))
    with pytest.raises(UnreadableFileError, match="no image"):
        open_volume(path)


def test_slices_may_be_counted_from_anywhere(tmp_path):
    path = write(tmp_path / "stack.czi", example("uint8"), skip=[0, 1])
    np.testing.assert_array_equal(read_all(path), example("uint8")[2:])


def test_a_slice_larger_than_its_file_can_hold_is_refused(tmp_path):
    path = tmp_path / "stack.czi"
    with czi.create_czi(str(path)) as document:
        for x in (0, 2**30):
            document.write(data=example("uint8")[0][..., None], plane={}, location=(x, 0))
        document.write_metadata(document_name="cells")
    with pytest.raises(UnreadableFileError, match="says a slice is 37 x 10737418"):
        open_volume(path)


@pytest.mark.parametrize(
    ("segment", "offset", "kind", "value"),
    [
        (b"ZISRAWSUBBLOCK", 32, "i", -7),
        (b"ZISRAWSUBBLOCK", 40, "q", 2**62),
        (b"ZISRAWSUBBLOCK", 48 + 28, "i", -1),
        (b"ZISRAWSUBBLOCK", 0, "i", 0),
        (b"ZISRAWDIRECTORY", 0, "i", 0),
        (b"ZISRAWDIRECTORY", 32, "i", 2**31 - 1),
        (b"ZISRAWDIRECTORY", 32 + 128 + 28, "i", 2**31 - 1),
        (b"ZISRAWDIRECTORY", 32 + 128 + 6, "q", -1),
        (b"ZISRAWDIRECTORY", 32 + 128 + 6, "q", 2**40),
    ],
)
def test_numbers_that_would_end_the_process_are_refused(tmp_path, segment, offset, kind, value):
    path = write(tmp_path / "stack.czi", example("uint8"))
    content = bytearray(path.read_bytes())
    struct.pack_into("<" + kind, content, content.index(segment) + offset, value)
    path.write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"damaged|cut off|as one of its own"):
        read_all(path)


def test_other_axes_are_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "stack.czi", example("uint8"))
    # Zeiss's library does not write them.
    box = {"T": (0, 1), "Z": (0, 5), "C": (0, 1), "H": (0, 2), "X": (0, 53), "Y": (0, 37)}
    monkeypatch.setattr(czi.CziReader, "total_bounding_box", box)
    with pytest.raises(UnreadableFileError, match="2 images along its axis H"):
        open_volume(path)


def test_without_its_library_the_extra_is_named(tmp_path, monkeypatch):
    path = write(tmp_path / "stack.czi", example("uint8"))
    monkeypatch.setitem(sys.modules, "pylibCZIrw.czi", None)
    with pytest.raises(MissingExtraError, match=r"biosegment\[czi\]"):
        open_volume(path)
