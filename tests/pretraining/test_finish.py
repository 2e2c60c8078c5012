"""The exports at a run's end, and that what cannot be exported is found before the training."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sltdino.core.run_files import read_artifacts, read_status
from sltdino.errors import CannotCreateError, RunFolderError, SettingsError
from sltdino.exporting.formats import export
from sltdino.pretraining import resume


def artifact(run: Path, name: str) -> dict[str, Any]:
    [entry] = [entry for entry in read_artifacts(run) if entry["name"] == name]
    return entry


def test_the_backbone_is_exported_and_registered(train: Any, tmp_path: Path) -> None:
    out = tmp_path / "exports" / "hand.pt"
    run = train(export_backbone=str(out)).run_dir
    entry = artifact(run, "exported_backbone")
    assert entry["path"] == str(out)
    written = torch.load(out, weights_only=True)["metadata"]
    assert entry["metadata"].items() >= {key: written[key] for key in ("stream", "algorithm", "backbone")}.items()
    assert entry["metadata"]["max_relative_error"] < 1e-4


def test_it_is_what_the_export_command_writes(train: Any, tmp_path: Path) -> None:
    run = train(export_backbone=str(tmp_path / "a.pt")).run_dir
    export(run, format="slt", out=tmp_path / "b.pt")
    one, other = (torch.load(tmp_path / name, weights_only=True) for name in ("a.pt", "b.pt"))
    assert one["metadata"] == other["metadata"]
    assert all(torch.equal(one["model"][key], other["model"][key]) for key in other["model"])


def test_the_encoder_is_exported_to_the_run_folder_unless_named(train: Any, tmp_path: Path) -> None:
    run = train(export_checkpoint=True).run_dir
    assert artifact(run, "encoder_state_dict")["path"] == str(run / "hand_encoder_state.pt")
    named = train("other", export_checkpoint=True, output_path=str(tmp_path / "e.pt")).run_dir
    assert artifact(named, "encoder_state_dict")["path"] == str(tmp_path / "e.pt")
    content = torch.load(tmp_path / "e.pt", weights_only=True)
    assert content["metadata"]["embed_dim"] == 16
    assert content["state_dict"]["cls_token"].shape == (1, 1, 16)


def test_a_stream_of_any_name_stays_in_the_run_folder(train: Any) -> None:
    run = train(export_checkpoint=True, stream="../left hand").run_dir
    assert artifact(run, "encoder_state_dict")["path"] == str(run / ".._left hand_encoder_state.pt")


def test_a_finished_run_can_be_given_an_export(finished: Path, tmp_path: Path) -> None:
    resume(finished, flags={"export_backbone": str(tmp_path / "late.pt")})
    assert (tmp_path / "late.pt").exists()
    assert artifact(finished, "exported_backbone")["path"] == str(tmp_path / "late.pt")


def test_a_run_that_is_made_longer_replaces_its_own_exports(train: Any, tmp_path: Path) -> None:
    run = train(export_backbone=str(tmp_path / "b.pt"), export_checkpoint=True).run_dir
    exports = ("exported_backbone", "encoder_state_dict")
    before = [artifact(run, name)["timestamp"] for name in exports]
    resume(run, flags={"epochs": 3})
    assert torch.load(tmp_path / "b.pt", weights_only=True)["metadata"]["global_step"] == 9
    assert torch.load(run / "hand_encoder_state.pt", weights_only=True)["global_step"] == 9
    assert all(old < artifact(run, name)["timestamp"] for old, name in zip(before, exports, strict=True))


# Refused before any step


def is_refused_early(run: Path) -> bool:
    return read_status(run)["state"] == "failed" and not (run / "metrics.jsonl").read_text()


@pytest.mark.parametrize("name", ["checkpoint_last.pt", "checkpoint_best.pt", "metrics.jsonl", "params.pt"])
@pytest.mark.parametrize("flag", ["export_backbone", "output_path"])
def test_an_export_onto_a_file_of_the_run_is_refused_before_training(
    flag: str, name: str, train: Any, tmp_path: Path
) -> None:
    with pytest.raises(RunFolderError, match="is a file of the run"):
        train(**{flag: str(tmp_path / "run" / name)}, export_checkpoint=True)
    assert is_refused_early(tmp_path / "run")


def test_an_export_whose_metadata_would_replace_the_weights_is_refused_before_training(
    train: Any, tmp_path: Path
) -> None:
    with pytest.raises(RunFolderError, match=r"end the weights' name in \.pt"):
        train(export_backbone=str(tmp_path / "b.json"))
    assert is_refused_early(tmp_path / "run")


def test_an_export_whose_metadata_would_replace_a_config_file_is_refused_before_training(
    train: Any, tmp_path: Path
) -> None:
    (tmp_path / "hands.json").write_text('{"epochs": 3}')
    with pytest.raises(RunFolderError, match=r"would replace .*hands\.json, which no export wrote"):
        train(export_backbone=str(tmp_path / "hands.pt"))
    assert json.loads((tmp_path / "hands.json").read_text()) == {"epochs": 3}
    assert is_refused_early(tmp_path / "run")


def test_an_export_onto_a_file_of_others_is_refused_before_training(train: Any, tmp_path: Path) -> None:
    (tmp_path / "b.pt").write_text("mine")
    with pytest.raises(RunFolderError, match="exists, and no slt export wrote it"):
        train(export_backbone=str(tmp_path / "b.pt"))
    assert (tmp_path / "b.pt").read_text() == "mine"
    assert is_refused_early(tmp_path / "run")


def test_registers_with_an_export_for_slt_are_refused_before_training(train: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no register tokens"):
        train(export_backbone=str(tmp_path / "b.pt"), vit_registers=2)
    assert is_refused_early(tmp_path / "run")


def test_registers_alone_are_warned_of(train: Any, recorder: Any) -> None:
    reporter = recorder()
    assert train(vit_registers=2, epochs=1, reporter=reporter).steps == 3
    assert any(text.startswith("warning: SLT's network has no register tokens") for text in reporter.said)


def test_two_exports_to_one_file_are_refused_before_training(train: Any, tmp_path: Path) -> None:
    both = {"export_backbone": str(tmp_path / "b.pt"), "output_path": str(tmp_path / "b.pt"), "export_checkpoint": True}
    with pytest.raises(SettingsError, match="is also --export-backbone"):
        train(**both)
    assert is_refused_early(tmp_path / "run")


def test_an_export_folder_that_cannot_be_made_is_found_before_training(train: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreateError):
        train(export_backbone=str(tmp_path / "file" / "b.pt"))
    assert is_refused_early(tmp_path / "run")
