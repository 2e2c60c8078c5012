"""The package as a library."""

import importlib
import pkgutil
from pathlib import Path

import pytest

import sltdino


def test_the_functions_are_the_commands_own_also_after_every_module_is_imported() -> None:
    for module in pkgutil.walk_packages(sltdino.__path__, "sltdino."):
        if module.name != "sltdino.__main__":
            importlib.import_module(module.name)
    from sltdino import evaluate, export, load_settings, pretrain, resume

    homes = [function.__module__ for function in (evaluate, export, load_settings, pretrain, resume)]
    assert homes == [
        "sltdino.pretraining.evaluate", "sltdino.exporting.formats", "sltdino.core.settings_files",
        "sltdino.pretraining.run", "sltdino.pretraining.run",
    ]  # fmt: skip


def test_settings_load_by_flat_and_dotted_names() -> None:
    settings = sltdino.load_settings("hands", flags={"train_dir": "crops", "epochs": 5, "vit.depth": 3}).settings
    assert (settings.train_dir, settings.epochs, settings.vit.depth) == ((Path("crops"),), 5, 3)
    assert settings.augmentation.hflip_prob == 0


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sltdino.nothing
