import json
from dataclasses import asdict, replace

import pytest

from biosegment.errors import RecipeError
from ml_backend.recipe import Recipe
from ml_backend.training import TrainingSpec

RECIPE = Recipe(learning_rate=5e-3, widths=(8, 16), dice_weight=0.5, augmentation=1.5)
GOOD = asdict(RECIPE)


def test_a_recipe_comes_back_as_it_was(tmp_path):
    path = tmp_path / "models" / "3" / "recipe.json"
    assert Recipe.read(path) is None
    RECIPE.write(path)
    assert Recipe.read(path) == RECIPE
    assert [each.name for each in path.parent.iterdir()] == ["recipe.json"]


def test_a_recipe_changes_what_it_holds_and_nothing_else():
    spec = TrainingSpec(("background", "cell"), effort=0.3, seed=7)
    changed = RECIPE.applied_to(spec)
    assert Recipe.of(changed) == RECIPE
    assert replace(changed, **asdict(Recipe.of(spec))) == spec


def test_the_default_recipe_is_the_default_training():
    spec = TrainingSpec(("background", "cell"))
    assert Recipe.of(spec).applied_to(spec) == spec


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "Expecting value"),
        ("[]", "one object"),
        (json.dumps({"learning_rate": 1e-3}), "it must hold augmentation, dice_weight"),
        (json.dumps(GOOD | {"steps": 3}), "nothing else"),
        (json.dumps(GOOD | {"learning_rate": 0}), "learning_rate must be a number from 1e-06 to 1"),
        (json.dumps(GOOD | {"learning_rate": "1e-3"}), "learning_rate must be a number"),
        (json.dumps(GOOD | {"dice_weight": float("nan")}), "dice_weight must be a number"),
        (json.dumps(GOOD | {"dice_weight": True}), "dice_weight must be a number"),
        (json.dumps(GOOD | {"augmentation": 4}), "augmentation must be a number from 0 to 3"),
        (json.dumps(GOOD | {"widths": [16]}), "widths must be 2 to 8 whole numbers"),
        (json.dumps(GOOD | {"widths": "16-32"}), "widths must be"),
        (json.dumps(GOOD | {"widths": [8, 0]}), "widths must be"),
        (json.dumps(GOOD | {"widths": [8, 1e9]}), "widths must be"),
    ],
)
def test_a_damaged_recipe_is_one_sentence(tmp_path, content, said):
    path = tmp_path / "recipe.json"
    path.write_text(content)
    with pytest.raises(RecipeError) as caught:
        Recipe.read(path)
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "biosegment tune PROJECT --reset" in str(caught.value)
