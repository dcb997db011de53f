import os
from pathlib import Path
from zipfile import ZipFile

import pytest

pytest.register_assert_rewrite("importers.testing")


@pytest.fixture(scope="session")
def real_formats() -> Path:
    """The folder of small files that other programs wrote."""
    data = os.environ.get("BIOSEGMENT_TEST_DATA")
    if not data:
        pytest.skip("BIOSEGMENT_TEST_DATA names no folder of real files")
    return Path(data) / "formats"


@pytest.fixture
def helios(real_formats: Path, tmp_path: Path) -> Path:
    """A slice by an FEI Helios, 16 bits."""
    with ZipFile(real_formats / "rosettasciio" / "tiff_FEI_Helios.zip") as archive:
        return Path(archive.extract("FEI-Helios-Ebeam-16bits.tif", tmp_path))
