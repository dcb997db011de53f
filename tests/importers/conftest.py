import os
from pathlib import Path
from zipfile import ZipFile

import pytest

from importers.samples import SampleFiles, vnc_sample, write_synthetic

pytest.register_assert_rewrite("importers.testing")


@pytest.fixture(scope="session")
def sample_stack(tmp_path_factory: pytest.TempPathFactory) -> SampleFiles:
    """A stack with its mitochondria: a real one where there is one, else a made-up one."""
    data = os.environ.get("BIOSEGMENT_TEST_DATA")
    folder = tmp_path_factory.mktemp("sample")
    if data and (Path(data) / "vnc" / "raw.tif").exists():
        return vnc_sample(folder, Path(data) / "vnc")
    return write_synthetic(folder, (6, 512, 640))


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
