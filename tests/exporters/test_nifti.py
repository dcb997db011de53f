import nibabel
import numpy as np
import pytest

from biosegment.geometry import VoxelSize
from exporters.nifti import NiftiWriter
from exporters.testing import CLASSES, WriterContract, example, example_labels, layer_of


def read(path):
    """Return voxels and voxel size by nibabel."""
    image = nibabel.load(path)
    space, _ = image.header.get_xyzt_units()
    assert space in ("micron", "unknown")
    edges = [1000 * float(edge) for edge in reversed(image.header.get_zooms())]
    voxels = np.asarray(image.dataobj).transpose()
    return voxels, VoxelSize(*edges) if space == "micron" else None


class TestNiftiWriter(WriterContract):
    writer = NiftiWriter
    keeps_names = False

    def image(self, path):
        return read(path)

    def labels(self, path):
        return read(path)


def test_labels_are_marked_as_such(tmp_path):
    path = tmp_path / "a.nii.gz"
    NiftiWriter().write(path, None, layer_of(example_labels("uint8"), CLASSES))
    assert nibabel.load(path).header.get_intent()[0] == "label"
    NiftiWriter().write(path, layer_of(example("uint8")), None)
    assert nibabel.load(path).header.get_intent()[0] == "none"


def test_it_lies_where_the_nrrd_file_lies(tmp_path):
    path = tmp_path / "a.nii.gz"
    NiftiWriter().write(path, layer_of(example("uint8")), None)
    image = nibabel.load(path)
    # NRRD's coordinates are left and posterior, these are right and anterior.
    np.testing.assert_allclose(image.affine, np.diag([-0.004, -0.005, 0.04, 1]), rtol=1e-6)
    np.testing.assert_allclose(image.get_qform(coded=True)[0], image.affine, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("extent", [32767, 32768])
def test_what_nifti_1_cannot_count_becomes_nifti_2(tmp_path, extent):
    path = tmp_path / "a.nii.gz"
    array = np.arange(2 * 3 * extent).astype("uint16").reshape(2, 3, extent)
    NiftiWriter().write(path, layer_of(array), None)
    image = nibabel.load(path)
    assert isinstance(image, nibabel.Nifti2Image) == (extent > 32767)
    np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(), array)
    assert read(path)[1].zyx == pytest.approx((40, 5, 4))


def test_the_same_volume_gives_the_same_file(tmp_path):
    for name in ("a.nii.gz", "b.nii.gz"):
        NiftiWriter().write(tmp_path / name, layer_of(example("uint8")), None)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
