"""SLT's contract A, item by item (COMPAT.md 2.1), against a network written here from that page alone."""

import json
import math
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sltdino.models
from sltdino.core.run_files import read_names
from sltdino.errors import (
    CannotCreateError,
    CheckpointError,
    MissingInputError,
    RunFolderError,
    SettingsError,
)
from sltdino.exporting import to_slt
from sltdino.exporting.backbone import TrainedBackbone, load_trained_backbone
from sltdino.exporting.formats import export, write_backbone

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SEED_MEAN, SEED_STD = (0.5, 0.4, 0.3), (0.25, 0.2, 0.3)


def reference(model: dict[str, Tensor], backbone: dict[str, Any], images: Tensor) -> tuple[Tensor, Tensor]:
    """The consumer's forward in float64, from the keys alone."""
    p = {key: value.double() for key, value in model.items()}
    width, heads, grid = backbone["embed_dim"], backbone["num_heads"], backbone["image_size"] // backbone["patch_size"]

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, (width,), p[f"{name}.weight"], p[f"{name}.bias"], eps=1e-5)

    x = F.conv2d(images, p["patch_embed.proj.weight"], p["patch_embed.proj.bias"], stride=backbone["patch_size"])
    size = x.shape[-2:]
    positions = p["pos_embed"][:, 1:].transpose(1, 2).reshape(1, width, grid, grid)
    positions = F.interpolate(positions, size=size, mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    x = x.flatten(2).transpose(1, 2) + positions
    x = torch.cat([(p["cls_token"] + p["pos_embed"][:, :1]).expand(len(x), -1, -1), x], dim=1)
    for i in range(backbone["depth"]):
        b = f"blocks.{i}"
        attention = nn.MultiheadAttention(width, heads, batch_first=True, dtype=torch.float64)
        attention.load_state_dict({k.removeprefix(f"{b}.attn."): v for k, v in p.items() if k.startswith(f"{b}.attn.")})
        y = norm(x, f"{b}.norm1")
        x = x + attention(y, y, y)[0]
        y = F.linear(norm(x, f"{b}.norm2"), p[f"{b}.mlp.0.weight"], p[f"{b}.mlp.0.bias"])
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        x = x + F.linear(y, p[f"{b}.mlp.3.weight"], p[f"{b}.mlp.3.bias"])
    x = norm(x, "norm")
    return x[:, 0], x[:, 1:]


def normalised(pictures: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    return (pictures - torch.tensor(mean).double().view(3, 1, 1)) / torch.tensor(std).double().view(3, 1, 1)


def assert_equal_features(backbone: TrainedBackbone, path: Path, *, size: int, tolerance: float = 1e-5) -> None:
    """Ours as trained, in float64, against the reference on the file under ImageNet's mean and std."""
    content = torch.load(path, weights_only=True)
    pictures = torch.rand(3, 3, size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    network = backbone.network.double()
    with torch.no_grad():
        ours = network.forward_features(normalised(pictures, backbone.mean, backbone.std))
        imagenet = normalised(pictures, IMAGENET_MEAN, IMAGENET_STD)
        theirs = reference(content["model"], content["metadata"]["backbone"], imagenet)
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() < tolerance * other.abs().max()


@pytest.fixture
def written(tmp_path: Path) -> Callable[[TrainedBackbone], Path]:
    def written(backbone: TrainedBackbone) -> Path:
        write_backbone(backbone, format="slt", out=tmp_path / "backbone.pt")
        return tmp_path / "backbone.pt"

    return written


# 1. The file


def test_the_file_loads_as_weights_only_and_has_two_keys(written: Any, make_backbone: Any) -> None:
    content = torch.load(written(make_backbone()), weights_only=True)
    assert content.keys() == {"model", "metadata"}


def test_every_tensor_is_float32_on_the_cpu_contiguous_and_carries_nothing_else(
    written: Any, make_backbone: Any
) -> None:
    for value in torch.load(written(make_backbone()), weights_only=True)["model"].values():
        assert (value.dtype, value.device.type, value.is_contiguous()) == (torch.float32, "cpu", True)
        assert value.untyped_storage().nbytes() == value.numel() * 4


def test_a_json_file_beside_it_repeats_the_metadata(written: Any, tmp_path: Path, make_backbone: Any) -> None:
    metadata = torch.load(written(make_backbone()), weights_only=True)["metadata"]
    sidecar = json.loads((tmp_path / "backbone.json").read_text("utf-8"))
    assert sidecar.items() >= metadata.items()


# 2. The metadata


def test_the_metadata_describes_network_and_run(written: Any, make_backbone: Any) -> None:
    metadata = torch.load(written(make_backbone()), weights_only=True)["metadata"]
    assert metadata["backbone"] == {
        "image_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 4.0,
    }  # fmt: skip
    facts = ("stream", "algorithm", "best_loss", "epochs", "global_step")
    assert [metadata[fact] for fact in facts] == ["hand", "dino", 1.25, 7, 42]


# 3. The keys


def keys_of_vit_small() -> dict[str, tuple[int, ...]]:
    keys: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, 384), "pos_embed": (1, 197, 384), "norm.weight": (384,), "norm.bias": (384,),
        "patch_embed.proj.weight": (384, 3, 16, 16), "patch_embed.proj.bias": (384,),
    }  # fmt: skip
    for i in range(12):
        keys |= {f"blocks.{i}.{norm}.{kind}": (384,) for norm in ("norm1", "norm2") for kind in ("weight", "bias")}
        for name, rows, columns in (("attn.in_proj_", 1152, 384), ("attn.out_proj.", 384, 384),
                                    ("mlp.0.", 1536, 384), ("mlp.3.", 384, 1536)):  # fmt: skip
            keys |= {f"blocks.{i}.{name}weight": (rows, columns), f"blocks.{i}.{name}bias": (rows,)}
    return keys


def test_vit_small_has_the_150_keys_and_shapes(written: Any, make_backbone: Any) -> None:
    vit = {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6}
    backbone = make_backbone(image_size=224, moved=False, vit=vit, augmentation={"local_crop_size": 96})
    model = torch.load(written(backbone), weights_only=True)["model"]
    assert len(model) == 150
    assert {key: tuple(value.shape) for key, value in model.items()} == keys_of_vit_small()


# 4. and 5. What the consumer computes


@pytest.mark.parametrize("size", [16, 24, 40])
def test_the_consumer_computes_our_features_at_any_size(written: Any, size: int, make_backbone: Any) -> None:
    backbone = make_backbone()
    assert_equal_features(backbone, written(backbone), size=size)


def test_another_mean_and_std_are_folded_into_the_patch_embedding(written: Any, make_backbone: Any) -> None:
    backbone = make_backbone(augmentation={"mean": SEED_MEAN, "std": SEED_STD})
    assert (backbone.mean, backbone.std) == (SEED_MEAN, SEED_STD)
    assert_equal_features(backbone, written(backbone), size=16)


def test_layer_scale_is_folded_into_the_layer_before_it(written: Any, make_backbone: Any) -> None:
    backbone = make_backbone(vit={"layer_scale": 0.1})
    assert any(key.endswith("gamma") for key in backbone.network.state_dict())
    assert_equal_features(backbone, written(backbone), size=16)


def test_the_effect_of_another_epsilon_is_reported(tmp_path: Path, make_backbone: Any) -> None:
    same = write_backbone(make_backbone(), format="slt", out=tmp_path / "a.pt")
    other = write_backbone(make_backbone(vit={"layer_norm_eps": 1e-2}), format="slt", out=tmp_path / "b.pt")
    assert same.layer_norm_eps_effect == 0
    assert other.layer_norm_eps_effect > 1e-3
    assert max(same.max_relative_error, other.max_relative_error) < 1e-5


# What is refused


def test_registers_are_refused(tmp_path: Path, make_backbone: Any) -> None:
    with pytest.raises(SettingsError, match="no register tokens"):
        write_backbone(make_backbone(vit={"registers": 2}), format="slt", out=tmp_path / "b.pt")
    assert list(tmp_path.iterdir()) == []


def test_weights_named_like_their_metadata_are_refused(tmp_path: Path, make_backbone: Any) -> None:
    with pytest.raises(RunFolderError, match=r"end the weights' name in \.pt"):
        write_backbone(make_backbone(), format="slt", out=tmp_path / "b.json")
    assert list(tmp_path.iterdir()) == []


def test_metadata_never_replaces_a_file_of_others_but_does_an_earlier_export(
    tmp_path: Path, make_backbone: Any
) -> None:
    (tmp_path / "b.json").write_text('{"epochs": 1}')
    with pytest.raises(RunFolderError, match="which no export wrote"):
        write_backbone(make_backbone(), format="slt", out=tmp_path / "b.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["b.json"]
    (tmp_path / "b.json").unlink()
    write_backbone(make_backbone(), format="slt", out=tmp_path / "b.pt")
    write_backbone(make_backbone(), format="slt", out=tmp_path / "b.pt")


@pytest.mark.parametrize(
    "name",
    ["checkpoint_last.pt", "checkpoint_best.pt", "checkpoint_prev.pt", "metrics.jsonl", "params.pt", "artifacts.pt",
     "status.json", "bad_images.jsonl", ".sltdino.lock"],
)  # fmt: skip
def test_a_file_of_a_run_is_never_replaced(finished: Path, name: str) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    with pytest.raises(RunFolderError):
        export(finished, format="slt", out=finished / name)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before


def test_a_file_of_a_run_is_known_by_its_chosen_name(train: Any) -> None:
    run = train(epochs=1, checkpoint_last_name="l.pt").run_dir
    assert read_names(run).last_name == "l.pt"
    with pytest.raises(RunFolderError, match=r"l\.pt is a file of the run"):
        export(run, format="slt", out=run / "l.pt")


@pytest.mark.parametrize(
    ("ours", "theirs"), [("attn.qkv.", "attn.in_projection_"), ("mlp.fc1.", "mlp.1."), ("attn.proj.", "mlp.0.")]
)
def test_a_wrong_key_is_found_and_nothing_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ours: str, theirs: str, make_backbone: Any
) -> None:
    monkeypatch.setitem(to_slt._RENAMES, ours, theirs)
    with pytest.raises(CheckpointError, match="the export is not what SLT's network loads") as caught:
        write_backbone(make_backbone(), format="slt", out=tmp_path / "b.pt")
    assert caught.value.code == "E-EXPORT"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fold", ["fold_normalisation", "fold_layer_scale"])
def test_wrong_weights_under_the_right_keys_are_found_and_an_old_export_stands(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fold: str, make_backbone: Any
) -> None:
    backbone = make_backbone(vit={"layer_scale": 0.1}, augmentation={"mean": SEED_MEAN, "std": SEED_STD})
    write_backbone(backbone, format="slt", out=tmp_path / "b.pt")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def forget(weights: dict[str, Tensor], *_: Any, **__: Any) -> None:
        for key in [key for key in weights if key.endswith("gamma") and fold == "fold_layer_scale"]:
            del weights[key]

    monkeypatch.setattr(to_slt, fold, forget)
    with pytest.raises(CheckpointError, match="the export's features differ from the network's"):
        write_backbone(backbone, format="slt", out=tmp_path / "b.pt")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_in_the_place_of_the_file_is_a_73(tmp_path: Path, make_backbone: Any) -> None:
    (tmp_path / "b.pt").mkdir()
    with pytest.raises(CannotCreateError):
        write_backbone(make_backbone(), format="slt", out=tmp_path / "b.pt")


# From a run


def test_the_teacher_is_exported_not_the_student(finished: Path, tmp_path: Path) -> None:
    export(finished, format="slt", out=tmp_path / "b.pt")
    state = torch.load(finished / "checkpoint_last.pt", weights_only=True)
    exported = torch.load(tmp_path / "b.pt", weights_only=True)["model"]["norm.weight"]
    assert torch.equal(exported, state["teacher"]["backbone.norm.weight"])
    assert not torch.equal(exported, state["student"]["backbone.norm.weight"])


def test_a_run_folder_gives_its_last_or_best_checkpoint(finished: Path, tmp_path: Path) -> None:
    (finished / "checkpoint_best.pt").unlink()
    shutil.copy(finished / "checkpoint_prev.pt", finished / "checkpoint_best.pt")
    export(finished, format="slt", out=tmp_path / "last.pt")
    export(finished, format="slt", out=tmp_path / "best.pt", which="best")
    steps = [
        torch.load(tmp_path / f"{which}.pt", weights_only=True)["metadata"]["global_step"] for which in ("last", "best")
    ]
    assert steps == [6, 3]


def test_a_checkpoint_file_gives_the_same_export_as_its_folder(finished: Path, tmp_path: Path) -> None:
    one = export(finished, format="slt", out=tmp_path / "a.pt")
    other = export(finished / "checkpoint_last.pt", format="slt", out=tmp_path / "b.pt")
    a, b = (torch.load(report.path, weights_only=True)["model"] for report in (one, other))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_best_of_a_single_checkpoint_is_refused(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--which"):
        export(finished / "checkpoint_last.pt", format="slt", out=tmp_path / "b.pt", which="best")


def test_exporting_changes_nothing_in_the_run_but_the_list_of_artifacts(finished: Path, tmp_path: Path) -> None:
    def contents() -> dict[str, bytes]:
        listed = {"artifacts.json", ".sltdino.lock"}  # the lock says who held it last
        return {path.name: path.read_bytes() for path in finished.iterdir() if path.name not in listed}

    before = contents()
    export(finished, format="slt", out=tmp_path / "b.pt")
    assert contents() == before


def test_the_report_is_of_the_file(finished: Path, tmp_path: Path) -> None:
    import hashlib

    report = export(finished, format="slt", out=tmp_path / "b.pt")
    content = (tmp_path / "b.pt").read_bytes()
    assert (report.sha256, report.num_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 cut short"])
def test_what_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.pt"):
        load_trained_backbone(tmp_path / "x.pt")


def test_weights_that_do_not_fit_their_settings_are_named(finished: Path) -> None:
    path = finished / "checkpoint_last.pt"
    state = torch.load(path, weights_only=True)
    del state["teacher"]["backbone.norm.weight"]
    torch.save(state, path)
    with pytest.raises(CheckpointError, match="its weights do not fit its settings"):
        load_trained_backbone(path)


def test_a_missing_run_and_an_unknown_format_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError):
        export(tmp_path / "nothing", format="slt", out=tmp_path / "b.pt")
    with pytest.raises(SettingsError, match="'tar' is not one of slt"):
        export(tmp_path / "nothing", format="tar", out=tmp_path / "b.pt")


def test_the_lines_to_load_it_give_the_features_of_a_picture(
    make_backbone: Any, photo: Path, features_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the loader of the same name that `sltdino.models` has, since SLT is not installed here."""
    monkeypatch.setitem(sys.modules, "slt", sys.modules["sltdino"])
    monkeypatch.setitem(sys.modules, "slt.models", sltdino.models)
    monkeypatch.chdir(photo.parent)
    backbone = make_backbone(augmentation={"mean": SEED_MEAN, "std": SEED_STD})
    names: dict[str, Any] = {}
    exec(write_backbone(backbone, format="slt", out=tmp_path / "b.pt").load, names)
    wanted = features_of(backbone, photo)
    assert (names["cls"] - wanted).abs().max() < 0.02 * wanted.abs().max()
