import numpy as np
import pytest

from biosegment.errors import LabelConfigError, LabelValuesError, SettingsError
from biosegment.labels import LabelMap, labelling_config
from importers.label_values import LabelValues

ONE = LabelMap.from_config(labelling_config(["cell"]))
TWO = LabelMap.from_config(labelling_config(["background", "cell", "vesicle"]))
VALUES = np.array([[0, 3], [7, 255]], "uint16")


def test_in_a_project_of_one_label_every_value_is_that_label():
    np.testing.assert_array_equal(LabelValues().masks("f", VALUES, ONE), [[0, 1], [1, 1]])


def test_values_mean_what_the_map_says():
    values = LabelValues.parse("3=vesicle, 7=cell, 255=")
    np.testing.assert_array_equal(values.masks("f", VALUES, TWO), [[0, 2], [1, 0]])


def test_unknown_stays_unknown():
    values = LabelValues.parse("3=vesicle,7=cell", unknown=255)
    np.testing.assert_array_equal(values.masks("f", VALUES, TWO), [[0, 2], [1, 255]])
    sparse = LabelValues({1: "cell"}, unknown=0)
    np.testing.assert_array_equal(sparse.masks("f", VALUES[:1] > 0, TWO), [[255, 1]])


def test_values_without_a_label_are_listed():
    with pytest.raises(LabelValuesError, match=r"means by 7, 255 .* cell, vesicle; .*--map 7=cell"):
        LabelValues({3: "cell"}).masks("f", VALUES, TWO)
    with pytest.raises(LabelValuesError, match="3, 7, 255"):
        LabelValues().masks("f", VALUES, TWO)


def test_large_slices_pass_in_bands(monkeypatch):
    values = np.random.default_rng(0).choice([0, 3, 7, 9], (31, 17)).astype("uint16")
    meaning = LabelValues.parse("3=vesicle,7=cell,9=")
    expected = meaning.masks("f", values, TWO)
    monkeypatch.setattr("importers.label_values._BAND_VOXELS", 10)
    np.testing.assert_array_equal(meaning.masks("f", values, TWO), expected)
    np.testing.assert_array_equal(expected, np.select([values == 3, values == 7], [2, 1], 0))
    with pytest.raises(LabelValuesError, match="7, 9"):
        LabelValues({3: "cell"}).masks("f", values, TWO)


@pytest.mark.parametrize("text", ["", "cell", "a=cell", "1=cell,2", "-1=cell"])
def test_what_is_no_map_is_told(text):
    with pytest.raises(SettingsError, match="1=mitochondria"):
        LabelValues.parse(text)


def test_a_label_that_the_project_lacks_is_told():
    with pytest.raises(LabelConfigError, match="nucleus"):
        LabelValues.parse("1=nucleus").checked(ONE)


def test_unknown_voxels_need_a_background_brush():
    LabelValues(unknown=255).checked(TWO)
    with pytest.raises(LabelConfigError, match="background"):
        LabelValues(unknown=255).checked(ONE)


def test_names_in_the_file_are_matched():
    values = LabelValues(unknown=255).named("f", {3: "Vesicle", 7: "CELL"}, TWO)
    np.testing.assert_array_equal(values.masks("f", VALUES, TWO), [[0, 2], [1, 255]])


def test_what_the_user_says_counts_more_than_names():
    said = LabelValues({3: "cell"})
    assert said.named("f", {3: "vesicle"}, TWO) == said


def test_names_that_are_no_labels_are_listed():
    with pytest.raises(LabelValuesError, match=r"7 \(nucleus\) .*--map 7=cell"):
        LabelValues().named("f", {3: "cell", 7: "nucleus"}, ONE)


def test_names_match_but_for_case_and_signs():
    two = LabelMap.from_config(labelling_config(["synaptic vesicle", "cell"]))
    named = LabelValues().named("f", {3: "Synaptic_Vesicle", 9: "CELL"}, two)
    assert dict(named.labels) == {3: "synaptic vesicle", 9: "cell"}


def test_an_area_without_a_name_is_the_only_label_there_is():
    assert dict(LabelValues().named("f", {1: "", 2: "Cell"}, ONE).labels) == {1: "cell", 2: "cell"}
    with pytest.raises(LabelValuesError, match=r"1 \(\)"):
        LabelValues().named("f", {1: ""}, TWO)
