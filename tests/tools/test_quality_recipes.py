"""The recipes of a study, and those that a user adds."""

import json

import pytest
from quality_recipes import BASELINES, RECIPES, recipes_of

from sltdino.cli.app import app
from sltdino.core.settings_presets import PRESETS
from sltdino.errors import SettingsError


def test_own_recipes_come_after_the_named_ones_and_hold_flags_as_a_shell_reads_them() -> None:
    found = recipes_of(
        ["untrained", "laptop"], ["mine=--preset laptop --set loss.koleo_weight=0.1 --experiment-notes 'a b'"]
    )
    assert [recipe.name for recipe in found] == ["untrained", "laptop", "mine"]
    assert [recipe.is_trained for recipe in found] == [False, True, True]
    assert found[2].flags == ("--preset", "laptop", "--set", "loss.koleo_weight=0.1", "--experiment-notes", "a b")


@pytest.mark.parametrize(
    ("names", "own", "said"),
    [
        (["labtop"], [], "no recipe 'labtop'; choose of laptop"),
        ([], ["mine"], "write NAME="),
        ([], ["../mine=--preset laptop"], "with a name of letters"),
        ([], ["laptop=--lr 1"], "'laptop' is a recipe of ours"),
        ([], ["mine=--a", "mine=--b"], "'mine' is there twice"),
        ([], ["mine=--notes 'open"], "No closing quotation"),
        ([], ["mine=--preset laptop --epochs 3 --seed=4"], "--epochs, --seed=4 is for the study to say"),
        ([], ["mine=--preset nonesuch"], "no --preset nonesuch"),
    ],
)
def test_what_cannot_be_a_recipe_is_refused(names: list[str], own: list[str], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        recipes_of(names, own)


@pytest.mark.parametrize("name", [name for name, flags in RECIPES.items() if flags[1] in PRESETS])
def test_the_settings_of_every_recipe_can_be(name: str, pictures: object, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["pretrain", "hands", "--train-dir", str(pictures), *RECIPES[name], "--batch-size", "8"]
    assert app([*command, "--print-config=json"], standalone_mode=False) is None
    assert '"image_size": 64' in capsys.readouterr().out


@pytest.mark.parametrize("name", ["dino", "ibot", "dinov2"])
def test_the_papers_recipes_have_the_size_of_laptop(
    name: str, pictures: object, capsys: pytest.CaptureFixture[str]
) -> None:
    def sizes(name: str) -> list[object]:
        command = ["pretrain", "hands", "--train-dir", str(pictures), *RECIPES[name], "--print-config=json"]
        app(command, standalone_mode=False)
        printed = json.loads(capsys.readouterr().out)
        crops, vit, head = printed["augmentation"], printed["vit"], printed["head"]
        return [
            *(vit[key] for key in ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")),
            crops["image_size"], crops["local_crop_size"], printed["dataset"]["batch_size"],
            head["out_dim"], head["hidden_dim"],
        ]  # fmt: skip

    assert sizes(name) == sizes("laptop")


def test_baselines_start_as_what_they_are_compared_with() -> None:
    found = {recipe.name: recipe for recipe in recipes_of(list(BASELINES))}
    assert found["untrained"].flags == found["raw-pixels"].flags == RECIPES["scratch"]
    assert found["starter"].flags == RECIPES["laptop"]
