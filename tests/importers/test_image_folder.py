import json
import shutil

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from biosegment.errors import UnreadableFileError, UnsupportedFormatError
from biosegment.geometry import Roi, VoxelSize
from importers.base import Choice
from importers.detect import open_volume
from importers.image_folder import ImageFolderReader
from importers.testing import SHAPE, ReaderContract, example, read_all


class FolderContract(ReaderContract):
    reader = ImageFolderReader
    voxel_size = None

    def cut(self, path):
        super().cut(sorted(path.iterdir())[2])


class TestPngFolder(FolderContract):
    def write(self, folder, volume, voxel_size):
        for z, plane in enumerate(volume):
            Image.fromarray(plane).save(folder / f"{z}.png")
        return folder


class TestTiffFolder(FolderContract):
    dtypes = ("uint8", "int16", "uint16", "float32")

    def write(self, folder, volume, voxel_size):
        for z, plane in enumerate(volume):
            tifffile.imwrite(folder / f"{z}.tif", plane, compression="zlib")
        return folder


def save(folder, **images):
    for name, value in images.items():
        Image.fromarray(np.full((3, 4), value, "uint8")).save(folder / f"{name}.png")


def test_slices_are_in_natural_order(tmp_path):
    save(tmp_path, s10=10, s9=9, s1=1, s2=2)
    assert read_all(tmp_path)[:, 0, 0].tolist() == [1, 2, 9, 10]


def test_jpeg_slices_read(tmp_path):
    plane = example("uint8")[0]
    Image.fromarray(plane).save(tmp_path / "0.jpg", quality=95)
    assert np.abs(read_all(tmp_path)[0].astype(int) - plane).mean() < 6


def test_files_of_other_kinds_are_no_slices(tmp_path):
    save(tmp_path, a=1, b=2)
    (tmp_path / "readme.txt").write_text("my stack")
    (tmp_path / "._a.png").write_bytes(b"left by a Mac")
    (tmp_path / "old.png").mkdir()
    assert read_all(tmp_path).shape == (2, 3, 4)


def test_one_picture_is_a_volume_of_one_slice(tmp_path):
    save(tmp_path, only=7)
    assert read_all(tmp_path / "only.png").tolist() == np.full((1, 3, 4), 7).tolist()


def test_what_an_export_tells_beside_slices_is_known(tmp_path):
    save(tmp_path, a=1, b=2)
    told = {"voxel_size_nm": [40, 5, 4], "label_names": {"1": "cell", "2": "ER"}}
    (tmp_path / "volume.json").write_text(json.dumps(told))
    with open_volume(tmp_path) as reader:
        assert reader.info.voxel_size == VoxelSize(40, 5, 4)
        assert reader.info.label_names == {1: "cell", 2: "ER"}


@pytest.mark.parametrize(
    "text",
    [
        *("[]", "{", "\x80", '"text"', '{"label_names": [1]}', '{"voxel_size_nm": null}'),
        *('{"voxel_size_nm": [40, 5]}', '{"voxel_size_nm": [0, 5, 4]}', '{"voxel_size_nm": "405"}'),
    ],
)
def test_what_others_write_under_that_name_tells_nothing(tmp_path, text):
    save(tmp_path, a=1, b=2)
    (tmp_path / "volume.json").write_text(text, "latin-1")
    with open_volume(tmp_path) as reader:
        assert (reader.info.voxel_size, dict(reader.info.label_names)) == (None, {})


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UnsupportedFormatError, match="image_folder: it is a folder without slices"):
        open_volume(tmp_path)


def test_mixed_sizes_are_refused_naming_both_files(tmp_path):
    save(tmp_path, a=1, b=1)
    Image.new("L", (5, 3)).save(tmp_path / "c.png")
    with pytest.raises(UnreadableFileError, match=r"a\.png is 3 x 4 uint8, c\.png is 3 x 5 uint8"):
        open_volume(tmp_path)


def test_mixed_types_are_refused_naming_both_files(tmp_path):
    save(tmp_path, a=1)
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((3, 4), "uint16"))
    with pytest.raises(UnreadableFileError, match=r"a\.png is .* uint8, b\.tif is .* uint16"):
        open_volume(tmp_path)


def test_a_stack_among_the_slices_is_refused(tmp_path):
    save(tmp_path, a=1)
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((2, 3, 4), "uint8"), photometric="minisblack")
    with pytest.raises(UnreadableFileError, match="holds 2 slices, not one"):
        open_volume(tmp_path)


def test_colour_samples_are_channels_to_choose_from(tmp_path):
    colour = np.stack([example("uint8"), example("uint8")[::-1], 255 - example("uint8")], -1)
    for z, plane in enumerate(colour):
        if z % 2:
            tifffile.imwrite(tmp_path / f"{z}.tif", plane, photometric="rgb")
        else:
            Image.fromarray(plane).save(tmp_path / f"{z}.png")
    for channel in range(3):
        with open_volume(tmp_path, Choice(channel=channel)) as reader:
            assert reader.info.channel_names == ("red", "green", "blue")
            np.testing.assert_array_equal(reader.read(Roi.whole(SHAPE)), colour[..., channel])


def test_grey_with_transparency_is_two_channels(tmp_path):
    pixels = np.stack([example("uint8")[0], example("uint8")[1]], -1)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_all(tmp_path)[0], pixels[..., 0])


def test_colour_and_grey_are_not_mixed(tmp_path):
    save(tmp_path, a=1)
    Image.new("RGB", (4, 3)).save(tmp_path / "b.png")
    with pytest.raises(UnreadableFileError, match=r"b\.png is 3 x 4 uint8 with 3 colour samples"):
        open_volume(tmp_path)


def test_colour_that_would_lose_bits_is_refused(tmp_path):
    pixels = np.zeros((3, 4, 3), "uint16")
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(pixels))
    with pytest.raises(UnreadableFileError, match="16 bits a colour"):
        open_volume(tmp_path)


def test_what_is_stored_inverted_looks_right_but_labels_keep_their_values(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[10, 250]], "uint8"), photometric="miniswhite")
    with open_volume(tmp_path) as reader:
        assert reader.read(Roi.whole((1, 1, 2))).tolist() == [[[245, 5]]]
        assert reader.read_labels(Roi.whole((1, 1, 2))).tolist() == [[[10, 250]]]


def test_a_gap_in_the_numbering_is_told(tmp_path):
    save(tmp_path, s11=1, s12=1, s13=1, s16=1)
    with open_volume(tmp_path) as reader:
        assert reader.info.shape == (4, 3, 4)
        assert reader.info.notices == ("Slices 14 to 15 are missing between s13.png and s16.png",)


def test_what_the_first_slice_tells_of_the_acquisition_is_kept(tmp_path, helios):
    folder = tmp_path / "stack"
    folder.mkdir()
    for z in range(3):
        shutil.copy(helios, folder / f"{z}.tif")
    with open_volume(folder) as reader:
        assert reader.info.shape == (3, 471, 512)
        assert reader.info.voxel_size is None
        assert reader.info.metadata["EScan.Dwell"] == "1e-05"
        assert [notice.split()[0] for notice in reader.info.notices] == ["Its", "The"]


def test_a_picture_larger_than_pillow_likes_is_read(tmp_path, monkeypatch):
    save(tmp_path, a=7)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2)
    assert (read_all(tmp_path) == 7).all()
    assert Image.MAX_IMAGE_PIXELS == 2


def test_label_values_are_kept_as_they_are(tmp_path):
    bilevel = Image.fromarray(np.array([[True, False]]))
    bilevel.save(tmp_path / "bilevel.png")
    assert read_all(tmp_path / "bilevel.png").tolist() == [[[1, 0]]]
    indexed = Image.fromarray(np.array([[2, 1, 0]], "uint8"))
    indexed.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    indexed.save(tmp_path / "indexed.png")
    assert read_all(tmp_path / "indexed.png").tolist() == [[[2, 1, 0]]]


def test_a_picture_that_claims_to_be_huge_is_refused(tmp_path):
    save(tmp_path, a=1)
    content = bytearray((tmp_path / "a.png").read_bytes())
    content[16:24] = (200_000).to_bytes(4) * 2
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(UnreadableFileError, match=r"a\.png"):
        open_volume(tmp_path)
