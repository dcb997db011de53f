import pytest

from biosegment.errors import SettingsError
from importers.preprocessing.bin import Bin
from importers.preprocessing.clahe import Clahe
from importers.preprocessing.denoise import Denoise
from importers.preprocessing.invert import Invert
from importers.preprocessing.normalise import Normalise
from importers.preprocessing.parse import parse_steps


def test_steps_keep_their_order_and_parameters():
    assert parse_steps("invert, normalise=slice:bits=8,clahe:slope=2,bin=1x2x2,denoise=nlm") == (
        Invert(),
        Normalise("slice", bits=8),
        Clahe(slope=2),
        Bin((1, 2, 2)),
        Denoise("nlm"),
    )


def test_one_factor_bins_all_axes():
    assert parse_steps("bin=4") == (Bin((4, 4, 4)),)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sharpen", "'sharpen'; there are: normalise, clahe, bin, denoise, invert"),
        ("", "no step ''"),
        ("clahe,", "no step ''"),
        ("clahe:clip=2", "no parameter 'clip' of clahe; it has: region_px, slope"),
        ("invert=yes", "no parameter '' of invert; it has: none"),
        ("clahe=5", "region_px must be from 16 to 1024"),
        ("clahe=big", "region_px must be like 128"),
        ("clahe:slope=0.5", "slope must be from 1 to 64"),
        ("clahe:slope=nan", "slope must be from 1 to 64"),
        ("clahe:slope", "slope must be like 3.0"),
        ("bin=2x2", "factors must be from 1 to 64, such as 1x2x2"),
        ("bin=0x2x2", "factors must be from 1 to 64"),
        ("bin=2x", "factors must be like 1x2x2"),
        ("denoise=n2v", "method must be tv or nlm"),
        ("denoise:strength=0", "strength must be above 0 and at most 10"),
        ("normalise=tile", "scope must be volume or slice"),
        ("normalise:low_percent=99:high_percent=1", "low_percent must be below high_percent"),
        ("normalise:bits=12", "bits must be 8 or 16"),
    ],
)
def test_what_cannot_be_done_is_said(text, said):
    with pytest.raises(SettingsError) as caught:
        parse_steps(text)
    assert "--preprocess" in str(caught.value)
    assert said in str(caught.value)
