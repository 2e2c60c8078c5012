"""What `sltdino inspect FILE` says about weights of every kind."""

import argparse
import json
import os
import warnings
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from sltdino import export
from sltdino.cli import app
from sltdino.errors import CheckpointError, MissingInputError
from sltdino.report.weights import describe, render

SLT, VITS14, TIMM, HF, OURS = (
    "SLT, as slt_vitsmall_patch16", "SLT, as dinov2_vits14", "timm", "Hugging Face transformers",
    "sltdino pretrain --init-from",
)  # fmt: skip
BACKBONE = {"image_size": 12, "patch_size": 4, "embed_dim": 24, "depth": 2, "num_heads": 1, "mlp_ratio": 4.0}


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def takers(facts: dict[str, Any]) -> set[str]:
    return {loader["name"] for loader in facts["loaders"] if loader["takes"]}


def reason(facts: dict[str, Any], name: str) -> str:
    [why] = [loader["why"] for loader in facts["loaders"] if loader["name"] == name]
    return str(why)


@pytest.mark.parametrize(
    ("table", "layout", "taken_by", "size"),
    [
        ("dino", "dino", {TIMM, OURS}, {}),
        ("timm", "timm-classifier", {TIMM, OURS}, {}),
        ("ibot", "ibot", {OURS}, {}),
        ("dinov2", "dinov2", {OURS}, {}),
        ("dinov2", "dinov2-registers", {OURS}, {"registers": 4}),
        ("slt", "slt", {OURS}, {}),
        ("hf_dinov2", "hf-dinov2", {OURS}, {}),
        ("hf_dinov2", "hf-dinov2-registers", {OURS}, {"registers": 2}),
    ],
)
def test_every_layout_is_named_with_its_architecture_and_its_loaders(
    table: str, layout: str, taken_by: set[str], size: dict[str, int], foreign: Any, tmp_path: Path
) -> None:
    weights = foreign.weights(table, **size)
    facts = describe(save(tmp_path / "w.pth", weights))
    assert (facts["layout"], facts["problem"]) == (layout, "")
    expected = {"embed_dim": 24, "depth": 2, "patch_size": 4, "image_size": 12, "grid": 3, "mlp_ratio": 4.0}
    assert {key: facts["network"][key] for key in expected} == expected
    assert facts["network"]["registers"] == size.get("registers", 0)
    assert facts["network"]["layer_scale"] is ("dinov2" in table)
    mask = any("mask" in key for key in weights)
    classifier = sum(value.numel() for key, value in weights.items() if key.startswith("head."))
    numbers = sum(value.numel() for value in weights.values())
    assert facts["numbers"] == numbers
    assert facts["network"]["parameters"] == numbers - classifier + (0 if mask else 24)
    assert takers(facts) == taken_by
    assert layout in render(facts)


def test_the_file_itself_is_described(foreign: Any, tmp_path: Path) -> None:
    weights = {key: value.half() if "blocks" in key else value for key, value in foreign.weights("dino").items()}
    path = save(tmp_path / "w.pth", weights)
    facts = describe(path)
    assert facts["bytes"] == path.stat().st_size
    assert facts["sha256"] == sha256(path.read_bytes()).hexdigest()
    halves = sum("blocks" in key for key in weights)
    assert facts["dtypes"] == {"float16": halves, "float32": len(weights) - halves}
    assert facts["normalisation"] == {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert facts["weights_only_safe"] is True


def test_a_checkpoint_of_ours_says_how_far_its_run_is(finished_once: Path) -> None:
    facts = describe(finished_once / "checkpoint_last.pt")
    stored = facts["checkpoint"]
    assert (stored["algorithm"], stored["stream"]) == ("dino", "hand")
    assert (stored["global_step"], stored["total_steps"], stored["epoch"], stored["epochs"]) == (6, 6, 2, 2)
    assert stored["best"]["metric"] == "loss"
    assert facts["heads"] == {"head": [32, 8]}
    assert takers(facts) == {OURS}
    assert "dino on hand: step 6 of 6, epoch 2 of 2; best so far: loss" in " ".join(render(facts).split())


def test_a_checkpoint_of_dino_is_not_a_file_for_timm(foreign: Any, tmp_path: Path) -> None:
    weights = foreign.weights("dino")
    teacher = {f"backbone.{key}": value for key, value in weights.items()}
    facts = describe(save(tmp_path / "w.pth", {"student": teacher, "teacher": teacher, "epoch": 3}))
    assert (facts["layout"], takers(facts)) == ("dino", {OURS})
    assert reason(facts, TIMM).startswith("its names are timm's, but")
    assert TIMM in takers(describe(save(tmp_path / "w.pth", {"model": weights, "epoch": 3})))


def test_an_export_for_slt_is_taken_by_slt(finished: Path, tmp_path: Path) -> None:
    export(finished, format="slt", out=tmp_path / "slt.pt")
    facts = describe(tmp_path / "slt.pt")
    assert takers(facts) == {SLT, OURS}
    assert facts["metadata"]["backbone"]["embed_dim"] == 16


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"metadata": {}}, "metadata.backbone is missing"),
        ({"metadata": {"backbone": BACKBONE | {"depth": 3}}}, "metadata.backbone is missing, or not that"),
        ({"extra": argparse.Namespace(a=1)}, "it holds objects"),
    ],
)
def test_what_slt_would_load_at_random_or_refuse_is_said(
    change: dict[str, Any], why: str, foreign: Any, tmp_path: Path
) -> None:
    good = {"model": foreign.weights("slt"), "metadata": {"backbone": BACKBONE}}
    assert SLT in takers(describe(save(tmp_path / "good.pt", good)))
    facts = describe(save(tmp_path / "bad.pt", good | change))
    assert SLT not in takers(facts)
    assert why in reason(facts, SLT)


def test_dinov2s_vits14_is_taken_by_slt_and_others_are_told_apart(foreign: Any, tmp_path: Path) -> None:
    size = {"width": 384, "depth": 12, "patch": 14, "hidden": 1536}
    shapes = foreign.tables["dinov2"](foreign.size(**size, grid=37))
    weights = {key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()}
    assert len(weights) == 175
    assert VITS14 in takers(describe(save(tmp_path / "w.pth", weights)))
    weights["pos_embed"] = torch.zeros(1, 257, 384)
    assert reason(describe(save(tmp_path / "w.pth", weights)), VITS14) == "its positions are for 224 px, not 518"
    tiny = describe(save(tmp_path / "tiny.pth", foreign.weights("dinov2")))
    assert reason(tiny, VITS14).startswith("not a ViT-S/14: patch_size 4, embed_dim 24, depth 2")


def test_a_folder_of_hugging_face_is_taken_by_transformers(foreign: Any, tmp_path: Path) -> None:
    safetensors.torch.save_file(foreign.weights("hf_dinov2"), tmp_path / "model.safetensors")
    assert HF not in takers(describe(tmp_path))
    (tmp_path / "config.json").write_text(
        json.dumps({"model_type": "dinov2", "hidden_size": 24, "num_attention_heads": 2, "layer_norm_eps": 1e-6})
    )
    facts = describe(tmp_path)
    assert takers(facts) == {HF, OURS}
    assert facts["network"]["num_heads"] == 2
    assert facts["container"] == "safetensors"
    assert app.main(["inspect", str(tmp_path)]) == 0


def test_objects_in_a_file_are_listed_and_not_made(foreign: Any, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "owned"),)

    path = save(tmp_path / "w.pth", {"teacher": foreign.weights("dino"), "args": Payload()})
    with pytest.raises(Exception, match=r"WeightsUnpickler|Weights only load failed"):
        torch.load(path, weights_only=True)
    facts = describe(path)
    assert not (tmp_path / "owned").exists()
    assert facts["weights_only_safe"] is False
    assert any(name.endswith(".mkdir") for name in facts["placeholders"])
    assert "NO: holds objects" in render(facts)
    torch.load(path, weights_only=False)  # the payload is real
    assert (tmp_path / "owned").exists()


def test_containers_that_hold_themselves_or_unfold_without_end_are_described(foreign: Any, tmp_path: Path) -> None:
    laughs: list[object] = [torch.zeros(2)]
    for _ in range(20):
        laughs = [laughs] * 10
    cycle: dict[str, Any] = {"backbone": BACKBONE, "laughs": laughs}
    cycle["self"] = cycle
    facts = describe(save(tmp_path / "w.pt", {"model": foreign.weights("slt"), "metadata": cycle}))
    assert facts["layout"] == "slt"
    assert facts["tensors"] == len(foreign.weights("slt")) + 1
    json.dumps(facts, allow_nan=False)
    render(facts)


def test_values_that_are_not_finite_are_counted_and_named(foreign: Any, tmp_path: Path, capsys: Any) -> None:
    weights = foreign.weights("dino")
    weights["norm.bias"][:3] = float("nan")
    weights["blocks.1.attn.proj.weight"][0, 0] = float("inf")
    path = save(tmp_path / "w.pth", weights)
    facts = describe(path)
    bad = facts["non_finite"]
    assert (bad["values"], bad["tensors"]) == (4, 2)
    assert set(bad["first_keys"]) == {"norm.bias", "blocks.1.attn.proj.weight"}
    assert "is not finite" in facts["problem"]
    assert app.main(["inspect", str(path)]) == 65
    assert "NO: 4 values in 2 tensors are not" in capsys.readouterr().out


def nested() -> torch.Tensor:
    with warnings.catch_warnings():  # torch calls them a prototype
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


@pytest.mark.parametrize(
    "odd",
    [
        torch.ones(3).to(torch.float8_e4m3fn),
        torch.empty(3, device="meta"),
        nested(),
    ],
    ids=["float8", "meta", "nested"],
)
def test_tensors_of_every_kind_are_described(foreign: Any, tmp_path: Path, odd: torch.Tensor) -> None:
    weights = foreign.weights("dino", width=64)
    facts = describe(save(tmp_path / "w.pt", {**weights, "odd": odd}))
    assert facts["tensors"] == len(weights) + 1
    assert "odd" in facts["problem"]


def test_floats_of_8_bits_that_are_not_finite_are_counted(foreign: Any, tmp_path: Path) -> None:
    odd = torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)
    facts = describe(save(tmp_path / "w.pt", {**foreign.weights("dino", width=64), "odd": odd}))
    assert facts["non_finite"] == {"values": 1, "tensors": 1, "first_keys": ["odd"]}


def test_unknown_weights_show_their_first_names_and_shapes(tmp_path: Path, capsys: Any) -> None:
    path = save(
        tmp_path / "w.pth", {"conv1.weight": torch.zeros(8, 3, 7, 7), "\x1b[2Jfc": torch.ones(2).to(torch.int8)}
    )
    assert app.main(["inspect", str(path)]) == 65
    captured = capsys.readouterr()
    assert "conv1.weight  float32 [8, 3, 7, 7]" in captured.out
    assert "\\x1b[2Jfc  int8 [2]" in captured.out
    assert captured.err.startswith(f"error [E-WEIGHTS] {path}: no vision transformer")
    assert "\x1b" not in captured.out + captured.err


@pytest.mark.parametrize("content", [b"", b"\0" * 2000, b"hello world", b"\x1f\x8b123"])
def test_what_holds_no_weights_is_an_error(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match="no weights that can be read"):
        describe(tmp_path / "w.pth")
    with pytest.raises(MissingInputError):
        describe(tmp_path / "none.pth")


def test_json_is_strict_whatever_the_metadata_hold(foreign: Any, tmp_path: Path, capsys: Any) -> None:
    metadata = {"backbone": BACKBONE, "best_loss": float("inf"), "when": [float("nan")], "t": torch.ones(1)}
    path = save(tmp_path / "w.pt", {"model": foreign.weights("slt"), "metadata": metadata})

    def refuse(token: str) -> None:
        raise AssertionError(token)

    assert app.main(["inspect", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert facts["metadata"]["best_loss"] is None
    assert facts["metadata"]["when"] == [None]


def test_a_page_has_80_columns(foreign: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    metadata = {"backbone": BACKBONE, "notes": "a word " * 200, "many": list(range(500))}
    save(Path("w.pt"), {"model": foreign.weights("slt"), "metadata": metadata})
    lines = render(describe(Path("w.pt"))).split("\n")
    assert np.max([len(line) for line in lines]) <= 80
