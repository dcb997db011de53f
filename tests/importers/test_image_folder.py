import numpy as np
import pytest
import tifffile
from PIL import Image

from biosegment.errors import UnreadableFileError
from biosegment.geometry import Roi
from importers.detect import open_volume
from importers.image_folder import ImageFolderReader
from importers.testing import ReaderContract, example


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


def read_all(path):
    with open_volume(path) as reader:
        return reader.read(Roi.whole(reader.info.shape))


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


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(UnreadableFileError, match="no slices"):
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


def test_colour_is_refused_in_words(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "a.png")
    with pytest.raises(UnreadableFileError, match="colour image"):
        open_volume(tmp_path)


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
