"""What MATLAB itself wrote, on four systems, is what SciPy keeps for its own tests."""

import math
from pathlib import Path

import numpy as np
import pytest
import scipy.io

from biosegment.errors import UnreadableFileError
from importers.mat5 import Mat5File

FOLDER = Path(scipy.io.__file__).parent / "matlab" / "tests" / "data"
BY = ("6.1_SOL2", "6.5.1_GLNX86", "7.1_GLNX86", "7.4_GLNX86")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="SciPy came without its test data")


@pytest.fixture
def opened():
    """Return a function that opens a file, until the test ends."""
    files = []

    def open_file(name):
        files.append(Mat5File(FOLDER / f"{name}.mat"))
        return files[-1]

    yield open_file
    for file in files:
        file.close()


@pytest.mark.parametrize("by", BY)
@pytest.mark.parametrize("name", ["test3dmatrix", "testmatrix", "testdouble", "testminus"])
def test_arrays_read_as_scipy_reads_them(opened, name, by):
    file = opened(f"{name}_{by}")
    truth = scipy.io.loadmat(file.path)[name]
    array = file.array(name)
    np.testing.assert_array_equal(array[(slice(None),) * truth.ndim].T, truth)
    assert file.numbers(name) == truth.ravel(order="F").tolist()


@pytest.mark.parametrize("by", BY)
def test_texts_stand_alone_or_in_cells(opened, by):
    assert opened(f"teststring_{by}").texts("teststring") == [
        '"Do nine men interpret?" "Nine men," I nod.'
    ]
    text, *arrays = opened(f"testcell_{by}").texts("testcell")
    assert (text[:14], arrays) == ("This cell cont", ["", "", ""])
    assert opened(f"teststringarray_{by}").texts("teststringarray") == [""]


def test_texts_may_be_of_any_script(opened):
    (text,) = opened("testunicode_7.4_GLNX86").texts("testunicode")
    assert text.startswith("Japanese: \nすべての人間は")


@pytest.mark.parametrize("order", ["little_endian", "big_endian"])
def test_either_byte_order_is_read(opened, order):
    file = opened(order)
    assert file.texts("strings") == ["hello", "world"]
    assert math.isclose(file.array("floats")[0, 1], scipy.io.loadmat(file.path)["floats"][1, 0])


@pytest.mark.parametrize(
    ("name", "variable", "kind"),
    [
        ("some_functions", "parabola", "function"),
        ("testfunc_7.4_GLNX86", "testfunc", "function"),
        ("testobject_7.4_GLNX86", "testobject", "object"),
        ("teststruct_7.4_GLNX86", "teststruct", "struct"),
        ("testsparse_7.4_GLNX86", "testsparse", "sparse"),
        ("testcomplex_7.4_GLNX86", "testcomplex", "complex"),
    ],
)
def test_whatever_is_no_array_of_numbers_is_refused(opened, name, variable, kind):
    with pytest.raises(UnreadableFileError, match=f"of class {kind}"):
        opened(name).array(variable)


def test_other_versions_are_not_taken():
    assert not Mat5File.begins(FOLDER / "testdouble_4.2c_SOL2.mat")
    assert not Mat5File.begins(FOLDER / "testhdf5_7.4_GLNX86.mat")
