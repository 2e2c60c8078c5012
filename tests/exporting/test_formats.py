"""What all formats share: nothing wrong leaves, nothing foreign is replaced, and a run knows what was made from it."""

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from sltdino.core.lock import FolderLock
from sltdino.core.run_files import read_artifacts
from sltdino.errors import CannotCreateError, CheckpointError, RunFolderError, SettingsError
from sltdino.exporting import formats, output_names, outputs
from sltdino.exporting.backbone import at_image_size, load_trained_backbone
from sltdino.exporting.formats import FORMATS, export, write_backbone

NAMES = {"slt": "b.pt", "timm": "b.safetensors", "hf": "b", "safetensors": "b.safetensors", "onnx": "b.onnx"}
QUICK = ["slt", "timm", "safetensors", "hf"]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# What was written is what is checked


def change_one(weights: dict[str, torch.Tensor]) -> None:
    weights[next(key for key in weights if key.endswith("1.norm2.bias"))] += 0.1


def drop_one(weights: dict[str, torch.Tensor]) -> None:
    del weights[next(key for key in weights if key.endswith("1.norm2.bias"))]


def reshape_one(weights: dict[str, torch.Tensor]) -> None:
    weights[next(key for key in weights if key.endswith("1.norm2.bias"))] = torch.zeros(3)


def rewrite(path: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the weights in a file that was just written, whatever its container."""
    path = path / "model.safetensors" if path.is_dir() else path
    if path.read_bytes()[:2] == b"PK":
        content = torch.load(path, weights_only=True)
        change(content.get("model", content))
        torch.save(content, path)
        return
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    weights = {key: value.clone() for key, value in weights.items()}
    change(weights)
    save_file(weights, path, metadata=metadata)


@pytest.mark.parametrize(
    ("change", "reason"),
    [(change_one, "features differ"), (drop_one, "is not what .* loads"), (reshape_one, "is not what .* loads")],
)
@pytest.mark.parametrize("format", ["slt", "timm", "timm-pt", "safetensors", "hf"])
def test_a_file_that_changes_between_writing_and_checking_never_appears_and_an_old_export_stands(
    make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, change: Any, reason: str
) -> None:
    name = "b.pt" if format == "timm-pt" else NAMES[format]
    format = format.removesuffix("-pt")
    write_backbone(make_backbone(), format=format, out=tmp_path / name)
    before = contents(tmp_path)
    real = outputs._proven
    tampered = []

    def tamper(check: Any, written: Path, format: str) -> Any:
        rewrite(written, change)
        tampered.append(written)
        return real(check, written, format)

    monkeypatch.setattr(outputs, "_proven", tamper)
    with pytest.raises(CheckpointError, match=reason) as caught:
        write_backbone(make_backbone(), format=format, out=tmp_path / name)
    assert (caught.value.code, len(tampered)) == ("E-EXPORT", 1)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("format", QUICK)
def test_a_file_cut_short_is_a_refusal_not_a_bug(
    make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    real = outputs._proven

    def cut(check: Any, written: Path, format: str) -> Any:
        weights = written / "model.safetensors" if written.is_dir() else written
        weights.write_bytes(weights.read_bytes()[:1000])
        return real(check, written, format)

    monkeypatch.setattr(outputs, "_proven", cut)
    with pytest.raises(CheckpointError, match=f"is not what the reader of {format} loads"):
        write_backbone(make_backbone(), format=format, out=tmp_path / NAMES[format])
    assert list(tmp_path.iterdir()) == []


# What is there already


@pytest.mark.parametrize("format", ["slt", "timm", "onnx", "safetensors"])
def test_a_file_that_no_export_wrote_is_not_replaced(make_backbone: Any, tmp_path: Path, format: str) -> None:
    (tmp_path / NAMES[format]).write_text("mine")
    with pytest.raises(RunFolderError, match=f"exists, and no {format} export wrote it"):
        write_backbone(make_backbone(), format=format, out=tmp_path / NAMES[format])
    assert contents(tmp_path) == {NAMES[format]: b"mine"}


def test_a_folder_that_no_export_wrote_is_not_replaced(make_backbone: Any, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "config.json").write_text("{}")
    with pytest.raises(RunFolderError, match="holds something, and no export wrote it"):
        write_backbone(make_backbone(), format="hf", out=tmp_path / "b")
    assert contents(tmp_path) == {"b/config.json": b"{}"}


def test_a_folder_is_replaced_as_a_whole_unless_something_was_added_to_it(make_backbone: Any, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()  # an empty one is nobody's
    write_backbone(make_backbone(), format="hf", out=tmp_path / "b")
    report = write_backbone(make_backbone(vit={"layer_scale": 0.1}), format="hf", out=tmp_path / "b")
    assert json.loads((tmp_path / "b" / "sltdino.json").read_text())["sha256"] == report.sha256
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    (tmp_path / "b" / "README.md").write_text("about it")
    before = contents(tmp_path)
    with pytest.raises(RunFolderError, match=r"an earlier export, but README\.md was added to it"):
        write_backbone(make_backbone(), format="hf", out=tmp_path / "b")
    assert contents(tmp_path) == before


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_is_not_replaced_by_one(make_backbone: Any, tmp_path: Path, kind: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "b").write_text("mine") if kind == "file" else (tmp_path / "b").symlink_to(tmp_path / "other")
    with pytest.raises(RunFolderError, match="is not a folder, and this format writes one"):
        write_backbone(make_backbone(), format="hf", out=tmp_path / "b")


def test_a_run_folder_is_not_replaced_by_a_folder(finished: Path) -> None:
    before = contents(finished)
    with pytest.raises(RunFolderError, match="holds something"):
        export(finished, format="hf", out=finished)
    assert contents(finished) == before


def test_exports_of_several_formats_under_one_stem_keep_their_own_metadata(make_backbone: Any, tmp_path: Path) -> None:
    write_backbone(make_backbone(), format="slt", out=tmp_path / "b.pt")
    write_backbone(make_backbone(), format="timm", out=tmp_path / "b.safetensors")
    said = {path.name: json.loads(path.read_text())["format"] for path in tmp_path.glob("*.json")}
    assert said == {"b.json": "slt", "b.safetensors.json": "timm"}


def test_metadata_of_another_export_is_not_replaced(make_backbone: Any, tmp_path: Path) -> None:
    write_backbone(make_backbone(), format="slt", out=tmp_path / "b.pt")
    with pytest.raises(RunFolderError, match=r"would replace that of b\.pt in .*b\.json"):
        write_backbone(make_backbone(), format="slt", out=tmp_path / "b.pth")


@pytest.mark.parametrize("format", QUICK)
def test_the_sidecar_holds_the_proof_of_this_file(make_backbone: Any, tmp_path: Path, format: str) -> None:
    import hashlib

    report = write_backbone(make_backbone(), format=format, out=tmp_path / NAMES[format])
    weights = report.path / "model.safetensors" if format == "hf" else report.path
    sidecar = json.loads(output_names.sidecar_of(report.path, format).read_text())
    assert sidecar["sha256"] == report.sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (sidecar["format"], sidecar["num_tensors"]) == (format, report.num_tensors)
    assert sidecar["verification"]["max_relative_error"] == report.max_relative_error < 1e-5
    assert sidecar["verification"]["verified_in"]
    assert sidecar["verification"]["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("format", QUICK)
def test_the_same_weights_give_the_same_bytes(make_backbone: Any, tmp_path: Path, format: str) -> None:
    backbone = make_backbone()
    digests = {write_backbone(backbone, format=format, out=tmp_path / NAMES[format]).sha256 for _ in range(6)}
    assert len(digests) == 1


def test_a_folder_that_cannot_be_written_to_is_a_73(make_backbone: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CannotCreateError):
        write_backbone(make_backbone(), format="hf", out=tmp_path / "file" / "b")


# In the run


def names_in(run: Path) -> list[str]:
    return [entry["name"] for entry in read_artifacts(run) if entry["name"].startswith("exported")]


def test_a_run_records_one_export_a_format_and_network(finished: Path, tmp_path: Path) -> None:
    export(finished, format="slt", out=tmp_path / "a.pt")
    export(finished, format="timm", out=tmp_path / "a.safetensors")
    export(finished, format="timm", out=tmp_path / "s.safetensors", student=True)
    report = export(finished, format="timm", out=tmp_path / "b.safetensors")
    assert names_in(finished) == ["exported_backbone", "exported_timm", "exported_timm_student"]
    [entry] = [entry for entry in read_artifacts(finished) if entry["name"] == "exported_timm"]
    assert entry["path"] == str(tmp_path / "b.safetensors")
    proof = ("format", "sha256", "num_tensors", "max_relative_error", "verified_in", "versions")
    assert {key: entry["metadata"][key] for key in proof} == {key: getattr(report, key) for key in proof}
    assert not any("artifacts.json" in note for note in report.notes)


def test_every_format_has_its_own_entry() -> None:
    names = [formats.artifact_name(format) for format in FORMATS]
    assert names == [
        "exported_backbone", "exported_slt_dinov2", "exported_timm", "exported_hf", "exported_onnx",
        "exported_safetensors",
    ]  # fmt: skip


def test_a_run_in_use_is_exported_but_not_written_to(finished: Path, tmp_path: Path) -> None:
    lock = FolderLock(finished / ".sltdino.lock")
    try:
        before = contents(finished)
        report = export(finished, format="slt", out=tmp_path / "b.pt")
        assert contents(finished) == before
    finally:
        lock.release()
    assert report.path.is_file()
    note = report.notes[-1]
    assert note.startswith("not recorded in the run's artifacts.json: ")
    assert "in use by pid" in note


def test_a_lone_checkpoint_has_no_run_to_record_it(finished: Path, tmp_path: Path) -> None:
    shutil.copy(finished / "checkpoint_last.pt", tmp_path / "c.pt")
    before = contents(finished)
    report = export(tmp_path / "c.pt", format="slt", out=tmp_path / "b.pt")
    assert contents(finished) == before
    assert not any("artifacts.json" in note for note in report.notes)
    assert not (tmp_path / "artifacts.json").exists()


@pytest.mark.parametrize("format", QUICK)
def test_whatever_a_file_of_others_says_is_written_as_plain_values(
    make_backbone: Any, tmp_path: Path, format: str
) -> None:
    write_backbone(make_backbone(), format="slt", out=tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    endless: list[Any] = []
    endless.append(endless)
    odd = {"best_loss": float("nan"), "x": [float("inf"), torch.ones(2), {1: 2}], "endless": endless}
    torch.save({**content, "metadata": content["metadata"] | odd}, tmp_path / "odd.pt")
    (tmp_path / "out").mkdir()
    export(tmp_path / "odd.pt", format=format, out=tmp_path / "out" / NAMES[format])
    sidecar = json.loads(output_names.sidecar_of(tmp_path / "out" / NAMES[format], format).read_text())
    assert sidecar["x"] == [None, None, {"1": 2}]
    if format == "slt":
        metadata = torch.load(tmp_path / "out/b.pt", weights_only=True)["metadata"]
        assert (metadata["x"], "best_loss" in metadata) == (sidecar["x"], False)


# Which network, at which size


def test_the_student_is_exported_when_asked_for(finished: Path, tmp_path: Path) -> None:
    export(finished, format="safetensors", out=tmp_path / "b.safetensors", student=True)
    state = torch.load(finished / "checkpoint_last.pt", weights_only=True)["student"]
    weights = load_file(tmp_path / "b.safetensors")
    assert all(torch.equal(value, state[f"backbone.{key}"]) for key, value in weights.items())
    sidecar = json.loads((tmp_path / "b.safetensors.json").read_text())
    assert sidecar["network"] == "student"


@pytest.mark.parametrize("format", QUICK)
def test_another_image_size_stores_our_positions_for_it(
    make_backbone: Any, ours: Any, relative: Any, tmp_path: Path, format: str
) -> None:
    backbone = make_backbone(image_size=32)
    resized = at_image_size(backbone, 48)
    assert resized.metadata["backbone"]["image_size"] == 48
    assert relative(ours(resized, 48)[1], ours(backbone, 48)[1]) < 1e-6
    report = write_backbone(resized, format=format, out=tmp_path / NAMES[format])
    assert report.input.image_size == 48
    assert report.max_relative_error < 1e-5
    sidecar = json.loads(output_names.sidecar_of(report.path, format).read_text())
    assert (sidecar["positions_resampled_from"], sidecar["input"]["image_size"]) == (32, 48)


def test_a_size_that_is_no_multiple_of_the_patch_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--image-size: 20 is not a multiple of the patch size 8"):
        export(finished, format="slt", out=tmp_path / "b.pt", image_size=20)


def test_loading_a_backbone_leaves_the_callers_random_numbers_alone(finished: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    at_image_size(load_trained_backbone(finished), 32)
    assert torch.equal(torch.rand(1), expected)


# What is not installed


@pytest.mark.parametrize(
    ("format", "package", "extra"),
    [
        ("hf", "transformers", "hf"),
        ("hf", "safetensors", "hf"),
        ("timm", "safetensors", "safetensors"),
        ("safetensors", "safetensors", "safetensors"),
        ("onnx", "onnx", "onnx"),
        ("onnx", "onnxscript", "onnx"),
        ("onnx", "onnxruntime", "onnx"),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str, package: str, extra: str
) -> None:
    for module in [name for name in sys.modules if name == package or name.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]  # what import takes as not installed
    with pytest.raises(SettingsError, match="is not installed") as caught:
        write_backbone(make_backbone(), format=format, out=tmp_path / NAMES[format])
    assert str(caught.value) == (
        f"--format {format}: {package}, which writes and checks it, is not installed; pip install 'sltdino[{extra}]'"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_is_broken_is_not_said_to_be_missing(
    make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(name: str) -> Any:
        raise ImportError("libfoo.so: cannot open shared object file", name="foo")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(SettingsError, match=r"does not import \(libfoo\.so: cannot open"):
        write_backbone(make_backbone(), format="safetensors", out=tmp_path / "b.safetensors")


@pytest.mark.parametrize("format", ["slt", "timm"])
def test_formats_of_plain_pytorch_need_nothing_more(
    make_backbone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    for package in ("safetensors", "transformers", "onnx", "onnxscript", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)  # type: ignore[arg-type]
    assert write_backbone(make_backbone(), format=format, out=tmp_path / "b.pt").path.exists()
