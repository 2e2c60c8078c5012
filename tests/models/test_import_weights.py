"""Public layouts, each against a forward written here from the project's own names."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sltdino.errors import CheckpointError, SettingsError
from sltdino.exporting.backbone import load_trained_backbone
from sltdino.models.import_weights import ImportedBackbone, import_backbone

PLAIN = {
    "norm1": "norm1",
    "qkv": "attn.qkv.",
    "proj": "attn.proj",
    "norm2": "norm2",
    "fc1": "mlp.fc1",
    "fc2": "mlp.fc2",
}
SLT = {**PLAIN, "qkv": "attn.in_proj_", "proj": "attn.out_proj", "fc1": "mlp.0", "fc2": "mlp.3"}


def forward(weights: dict[str, Tensor], images: Tensor, *, heads: int, eps: float, names: Any = PLAIN) -> list[Tensor]:
    """CLS and patches in float64, from the file's own names: DINO, DINOv2 with or without registers, timm, SLT."""
    p = {key: value.double() for key, value in weights.items()}

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], p[f"{name}.weight"], p[f"{name}.bias"], eps)

    kernel = p["patch_embed.proj.weight"]
    x = F.conv2d(images, kernel, p["patch_embed.proj.bias"], stride=kernel.shape[-1]).flatten(2).mT
    tokens, batch = x.shape[1], len(x)
    registers = p.get("register_tokens", p.get("reg_token", torch.zeros(1, 0, x.shape[-1]).double()))
    parts = [p["cls_token"], registers, x]
    pos = p["pos_embed"]
    if pos.shape[1] == tokens:  # timm's no_embed_class
        parts[2] = x + pos
    elif pos.shape[1] == 1 + tokens:
        parts[0], parts[2] = parts[0] + pos[:, :1], x + pos[:, 1:]
    else:  # timm's positions for every token
        parts = [part + piece for part, piece in zip(parts, pos.split([1, registers.shape[1], tokens], 1), strict=True)]
    x = torch.cat([part.expand(batch, -1, -1) for part in parts], dim=1)
    depth = len({key.split(".")[1] for key in p if key.startswith("blocks.")})
    for i in range(depth):
        at = {part: f"blocks.{i}.{name}" for part, name in names.items()}
        qkv = F.linear(norm(x, at["norm1"]), p[f"{at['qkv']}weight"], p[f"{at['qkv']}bias"])
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in qkv.chunk(3, -1))
        y = ((q @ k.mT / math.sqrt(q.shape[-1])).softmax(-1) @ v).transpose(1, 2).flatten(2)
        y = F.linear(y, p[f"{at['proj']}.weight"], p[f"{at['proj']}.bias"])
        x = x + y * p.get(f"blocks.{i}.ls1.gamma", 1.0)
        y = F.linear(norm(x, at["norm2"]), p[f"{at['fc1']}.weight"], p[f"{at['fc1']}.bias"])
        y = F.linear(y * 0.5 * (1 + torch.erf(y / math.sqrt(2))), p[f"{at['fc2']}.weight"], p[f"{at['fc2']}.bias"])
        x = x + y * p.get(f"blocks.{i}.ls2.gamma", 1.0)
    x = norm(x, "norm")
    return [x[:, 0], x[:, 1 + registers.shape[1] :]]


def images_for(imported: ImportedBackbone) -> Tensor:
    side = imported.network.image_size
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(9)).double()


def assert_same_features(imported: ImportedBackbone, theirs: list[Tensor]) -> None:
    with torch.no_grad():
        ours = imported.network.double().forward_features(images_for(imported))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other.double(), rtol=1e-5, atol=1e-5)


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


# what each layout computes

LAYOUTS = {
    "dino": ("dino", {}, 1e-6, PLAIN, "dino"),
    "timm": ("timm", {}, 1e-6, PLAIN, "timm-classifier"),
    "ibot": ("ibot", {}, 1e-6, PLAIN, "ibot"),
    "dinov2": ("dinov2", {}, 1e-6, PLAIN, "dinov2"),
    "dinov2 with registers": ("dinov2", {"registers": 4}, 1e-6, PLAIN, "dinov2-registers"),
    "slt": ("slt", {}, 1e-5, SLT, "slt"),
}


@pytest.mark.parametrize(("table", "size", "eps", "names", "layout"), LAYOUTS.values(), ids=LAYOUTS)
def test_the_network_computes_what_the_file_s_own_program_computes(tmp_path, foreign, table, size, eps, names, layout):
    weights = foreign.weights(table, width=128, hidden=512, **size)
    imported = import_backbone(save(tmp_path / "a.pth", weights))
    assert (imported.layout, imported.network.vit.num_heads) == (layout, 2)
    assert any("heads" in note for note in imported.notes)
    assert_same_features(imported, forward(weights, images_for(imported), heads=2, eps=eps, names=names))


def test_epsilon_is_the_layout_s_where_it_matters(tmp_path, foreign):
    small = {key: value * 1e-3 for key, value in foreign.weights("dino", width=64).items()}
    imported = import_backbone(save(tmp_path / "a.pth", small))
    assert imported.network.vit.layer_norm_eps == 1e-6
    assert_same_features(imported, forward(small, images_for(imported), heads=1, eps=1e-6))


def test_timm_s_positions_without_one_for_the_class_token(tmp_path, foreign):
    weights = foreign.weights("dino", width=64)
    weights["pos_embed"] = weights["pos_embed"][:, 1:]
    weights["reg_token"] = torch.randn(1, 4, 64)
    imported = import_backbone(save(tmp_path / "a.pth", weights))
    assert imported.network.vit.registers == 4
    assert_same_features(imported, forward(weights, images_for(imported), heads=1, eps=1e-6))


def test_timm_s_positions_for_registers(tmp_path, foreign):
    weights = foreign.weights("dino", width=64)
    weights["pos_embed"], weights["reg_token"] = torch.randn(1, 1 + 4 + 9, 64), torch.randn(1, 4, 64)
    imported = import_backbone(save(tmp_path / "a.pth", weights))
    assert_same_features(imported, forward(weights, images_for(imported), heads=1, eps=1e-6))
    assert any("registers" in note for note in imported.notes)


def test_dinov2_s_chunks_of_blocks_are_the_same_network(tmp_path, foreign):
    weights = foreign.weights("dinov2", width=64, depth=4)
    chunked = {}
    for key, value in weights.items():
        part, _, rest = key.partition(".")
        number, _, name = rest.partition(".")
        chunked[f"blocks.{int(number) // 2}.{number}.{name}" if part == "blocks" else key] = value
    imported = import_backbone(save(tmp_path / "a.pth", chunked))
    assert imported.layout == "dinov2"
    assert_same_features(imported, forward(weights, images_for(imported), heads=1, eps=1e-6))


# Hugging Face, against transformers itself

HUGGING_FACE = {
    "hf-vit": ("ViT", {"intermediate_size": 96, "layer_norm_eps": 3e-3}),
    "hf-dinov2": ("Dinov2", {"mlp_ratio": 3, "layer_norm_eps": 3e-3}),
    "hf-dinov2-registers": ("Dinov2WithRegisters", {"mlp_ratio": 3, "num_register_tokens": 4}),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["safetensors", "bin", "state dict"])
@pytest.mark.parametrize("layout", HUGGING_FACE)
def test_a_folder_of_hugging_face_gives_the_features_of_transformers(tmp_path, layout, kind):
    import transformers

    name, options = HUGGING_FACE[layout]
    config = getattr(transformers, f"{name}Config")(
        hidden_size=36, num_hidden_layers=2, num_attention_heads=6, image_size=12, patch_size=4, **options
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}Model")(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)
    if kind != "safetensors":  # transformers 5 has other names in memory than in its files
        from safetensors.torch import load_file

        saved = load_file(tmp_path / "model.safetensors") if kind == "bin" else model.state_dict()
        torch.save(saved, tmp_path / "pytorch_model.bin")
        (tmp_path / "model.safetensors").unlink()
    imported = import_backbone(tmp_path)
    assert (imported.layout, imported.network.vit.num_heads) == (layout, 6)
    assert imported.network.vit.layer_norm_eps == config.layer_norm_eps
    with torch.no_grad():
        tokens = model.double()(images_for(imported)).last_hidden_state
    assert_same_features(imported, [tokens[:, 0], tokens[:, 1 + imported.network.vit.registers :]])


def test_a_head_of_hugging_face_s_classifier_is_left_out_with_a_note(tmp_path, foreign):
    weights = {f"dinov2.{key}": value for key, value in foreign.weights("hf_dinov2", width=64).items()}
    weights["classifier.weight"], weights["classifier.bias"] = torch.zeros(5, 128), torch.zeros(5)
    notes = import_backbone(save(tmp_path / "a.bin", weights)).notes
    assert any("left out: classifier" in note for note in notes)
    assert any("taken from under dinov2." in note for note in notes)


# where a network lies in a checkpoint


def containers(backbone: dict[str, Tensor], other: dict[str, Tensor]) -> dict[str, Any]:
    def under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        return {f"{prefix}{key}": value for key, value in weights.items()}

    return {
        "backbone alone": backbone,
        "state_dict": {"state_dict": backbone, "epoch": 3},
        "model": {"model": backbone, "metadata": {"epochs": 2}},
        "module.": under("module.", backbone),
        "DINO's full checkpoint": {
            "student": under("module.backbone.", other), "teacher": under("backbone.", backbone),
            "optimizer": {"state": {0: {"exp_avg": torch.zeros(2)}}}, "epoch": 100,
            "args": argparse.Namespace(arch="vit_small"), "dino_loss": {"center": torch.zeros(1, 16)},
        },
        "student only": {"student": under("module.backbone.", backbone)},
        "DINOv2's evaluation file": {"teacher": under("backbone.", backbone)},
        "DINOv2 under FSDP": {
            "model": {**under("student.backbone.", other), **under("teacher.backbone._fsdp_wrapped_module.", backbone)},
            "iteration": 5,
        },
        "the old SLT scripts": {
            "epoch": 3, "student": other, "teacher": backbone, "head": {"mlp.0.weight": torch.zeros(2)},
            "teacher_head": {"mlp.0.weight": torch.zeros(2)}, "optimizer": {}, "scheduler": None,
            "metadata": {"best_loss": 1.0},
        },
        "our encoder state dict": {"stream": "hand", "state_dict": backbone, "metadata": {"num_heads": 2}},
    }  # fmt: skip


@pytest.mark.parametrize("where", containers({}, {}))
@pytest.mark.parametrize("table", ["dino", "dinov2", "slt"])
def test_the_teacher_is_found_wherever_it_lies(tmp_path, foreign, where, table):
    backbone, other = foreign.weights(table, width=64), foreign.weights(table, width=64, seed=1)
    imported = import_backbone(save(tmp_path / "a.pth", containers(backbone, other)[where]))
    assert torch.equal(imported.network.patch_embed.proj.weight, backbone["patch_embed.proj.weight"])
    assert imported.weights_only_safe == (where != "DINO's full checkpoint")


def test_two_networks_side_by_side_are_refused_by_name(tmp_path, foreign):
    backbone = foreign.weights("dino", width=64)
    path = save(tmp_path / "a.pth", {"teacher": {"face": backbone, "hand_left": backbone}})
    with pytest.raises(CheckpointError, match=r"2 networks under teacher \(face, hand_left\)"):
        import_backbone(path)
    path = save(tmp_path / "b.pth", {f"{eye}.{key}": value for eye in ("a", "b") for key, value in backbone.items()})
    with pytest.raises(CheckpointError, match=r"2 networks \(a, b\)"):
        import_backbone(path)


# what the files say about themselves


def test_the_network_is_ready_to_use(tmp_path, foreign):
    weights = {key: value.half() for key, value in foreign.weights("dino", width=64).items()}
    network = import_backbone(save(tmp_path / "a.pth", weights)).network
    assert not network.training
    assert {(p.dtype, p.device.type, p.requires_grad) for p in network.parameters()} == {(torch.float32, "cpu", False)}


def test_an_export_for_slt_says_its_heads_epsilon_and_metadata(tmp_path, foreign):
    metadata = {"backbone": {"num_heads": 3}, "trained_with": {"layer_norm_eps": 1e-6}, "stream": "hand"}
    imported = import_backbone(save(tmp_path / "a.pt", {"model": foreign.weights("slt"), "metadata": metadata}))
    assert (imported.network.vit.num_heads, imported.network.vit.layer_norm_eps) == (3, 1e-6)
    assert imported.metadata["stream"] == "hand"
    assert not any("heads" in note or "LayerNorm" in note for note in imported.notes)


def test_normalisation_is_imagenet_s_or_half_with_a_note_or_what_the_file_says(tmp_path, foreign):
    half, imagenet = (0.5, 0.5, 0.5), (0.485, 0.456, 0.406)
    path = save(tmp_path / "dino.pth", foreign.weights("dino", width=64))
    assert import_backbone(path).mean == imagenet
    path = save(tmp_path / "timm.pth", foreign.weights("timm", width=64))
    imported = import_backbone(path)
    assert (imported.mean, imported.std) == (half, half)
    assert any(note.startswith("normalisation: 0.5 and 0.5") for note in imported.notes)
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": imagenet, "std": [0.2, 0.3, 0.4]}}))
    imported = import_backbone(path)
    assert (imported.mean, imported.std) == (imagenet, (0.2, 0.3, 0.4))
    assert not any(note.startswith("normalisation") for note in imported.notes)


@pytest.mark.parametrize("claim", [{"hidden_size": 1_000_000_000}, {"num_hidden_layers": 3}])
def test_a_config_of_another_size_says_nothing_about_these_weights(tmp_path, foreign, claim):
    path = save(tmp_path / "pytorch_model.bin", foreign.weights("hf_dinov2", width=64))
    config = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert import_backbone(path).network.vit.num_heads == 4
    (tmp_path / "config.json").write_text(json.dumps(config | claim))
    imported = import_backbone(path)
    assert imported.network.vit.num_heads == 1
    assert "config.json: passed over, because it is not about these weights" in imported.notes


@pytest.mark.parametrize(
    ("mean", "std"), [([0.5] * 3, [0, 0.5, 0.5]), ([0.5] * 3, [-0.2] * 3), ([0.5] * 3, None), ("grey", [0.5] * 3)]
)
def test_a_normalisation_that_is_none_is_refused_and_not_replaced_by_another(tmp_path, foreign, mean, std):
    path = save(tmp_path / "timm.pth", foreign.weights("timm", width=64))
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": mean, "std": std}}))
    with pytest.raises(CheckpointError, match=r"no mean and std of three channels"):
        import_backbone(path)


def damaged_copy(run, path, change):
    state = torch.load(run / "checkpoint_last.pt", weights_only=True)
    change(state)
    return save(path, state)


def spoil_a_weight(state):
    state["teacher"]["backbone.norm.bias"][0] = float("nan")


def drop_a_weight(state):
    del state["teacher"]["backbone.norm.bias"]


def claim_a_million_blocks(state):
    state["settings"]["vit"]["depth"] = 10_000_000


def claim_a_large_width(state):
    state["settings"]["vit"]["embed_dim"] *= 1_000_000


def pose_as_terabytes(state):
    state["teacher"]["backbone.norm.bias"] = torch.zeros(1).expand(1 << 40)


def forget_the_progress(state):
    del state["progress"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (spoil_a_weight, r"norm\.bias is not finite"),
        (drop_a_weight, r"norm\.bias"),
        (claim_a_million_blocks, "no weights for the 10,000,000 blocks"),
        (claim_a_large_width, "do not fit its settings"),
        (pose_as_terabytes, "larger than its data"),
        (forget_the_progress, "has no progress; name a checkpoint"),
    ],
)
@pytest.mark.parametrize("read", [import_backbone, load_trained_backbone])
def test_a_checkpoint_of_ours_is_looked_at_as_closely_as_one_of_others(tmp_path, finished_once, read, change, reason):
    path = damaged_copy(finished_once, tmp_path / "c.pt", change)
    with pytest.raises(CheckpointError, match=reason):
        read(path)


def test_our_own_run_gives_its_teacher_with_heads_and_normalisation(finished_once):
    imported = import_backbone(finished_once)
    state = torch.load(finished_once / "checkpoint_last.pt", weights_only=True)["teacher"]
    assert imported.layout == "sltdino-checkpoint"
    for key, value in imported.network.state_dict().items():
        assert torch.equal(value, state[f"backbone.{key}"])
    assert {f"head.{key}" for key in imported.heads["head"]} == {key for key in state if key.startswith("head.")}
    assert import_backbone(finished_once / "checkpoint_best.pt").network.vit == imported.network.vit


def test_our_own_names_in_safetensors(tmp_path, finished_once):
    from safetensors.torch import save_file

    network = import_backbone(finished_once).network
    said = {"input": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}, "vit": {"num_heads": 4, "layer_norm_eps": 0.5}}
    save_file(network.state_dict(), tmp_path / "a.safetensors", metadata={"sltdino": json.dumps(said)})
    imported = import_backbone(tmp_path / "a.safetensors")
    assert (imported.layout, imported.mean, imported.std) == ("sltdino", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert (imported.network.vit.num_heads, imported.network.vit.layer_norm_eps) == (4, 0.5)
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in imported.network.state_dict().items())


# whole key lists at full size

FULL = {
    "dino_vits16": ("dino", {"patch": 16, "grid": 14}, 150),
    "dinov2_vits14": ("dinov2", {"patch": 14, "grid": 37}, 175),
    "dinov2_vits14_reg": ("dinov2", {"patch": 14, "grid": 37, "registers": 4}, 176),
    "vit_small_patch16_224": ("timm", {"patch": 16, "grid": 14}, 152),
    "dinov2_vits14 (Hugging Face)": ("hf_dinov2", {"patch": 14, "grid": 37}, 223),
    "slt_vitsmall_patch16": ("slt", {"patch": 16, "grid": 14}, 150),
}


@pytest.mark.parametrize(("name", "row"), FULL.items(), ids=FULL)
def test_the_published_network_loads_strictly_under_its_name(tmp_path, foreign, name, row):
    table, size, count = row
    shapes = foreign.tables[table](foreign.size(width=384, depth=12, hidden=1536, **size))
    assert len(shapes) == count
    path = save(tmp_path / "a.pth", {key: torch.zeros(shape, dtype=torch.float16) for key, shape in shapes.items()})
    imported = import_backbone(path, architecture=name.partition(" ")[0])
    vit = imported.network.vit
    assert (vit.embed_dim, vit.depth, vit.num_heads, vit.patch_size) == (384, 12, 6, size["patch"])
    assert (vit.registers, vit.mlp_ratio) == (size.get("registers", 0), 4.0)
    assert imported.network.grid_size == size["grid"]
    ours = sum(value.numel() for key, value in imported.network.state_dict().items() if key != "mask_token")
    beside = ("mask_token", "embeddings.mask_token", "head.weight", "head.bias")
    assert ours == sum(math.prod(shape) for key, shape in shapes.items() if key not in beside)


# what is refused


def test_strict_names_what_is_missing_and_what_is_too_much_and_else_notes_it(tmp_path, foreign):
    weights = foreign.weights("dino", width=64)
    del weights["blocks.1.norm2.bias"]
    weights["blocks.0.extra"] = torch.zeros(1)
    path = save(tmp_path / "a.pth", weights)
    with pytest.raises(CheckpointError, match=r"of dino: missing blocks\.1\.norm2\.bias; unexpected blocks\.0\.extra"):
        import_backbone(path)
    imported = import_backbone(path, strict=False)
    assert {"missing blocks.1.norm2.bias", "unexpected blocks.0.extra"} <= set(imported.notes)
    assert torch.equal(imported.network.blocks[1].norm2.bias, torch.zeros(64))


def changed(weights: dict[str, Tensor], **changes: Any) -> dict[str, Tensor]:
    new = {key.replace("__", "."): value for key, value in changes.items()}
    return {key: value for key, value in {**weights, **new}.items() if value is not None}


REFUSED = {
    "SwiGLU": (lambda w: changed(w, blocks__0__mlp__w12__weight=torch.zeros(8, 64)), "SwiGLU.*blocks.0.mlp.w12"),
    "fc_norm": (lambda w: changed(w, fc_norm__weight=torch.zeros(64), norm__weight=None), "average pooling"),
    "CLIP": (lambda w: changed(w, norm_pre__weight=torch.zeros(64)), "before the blocks"),
    "no class token": (lambda w: changed(w, cls_token=None), "without a class token"),
    "grey images": (lambda w: changed(w, patch_embed__proj__weight=torch.zeros(64, 1, 4, 4)), "1 channels"),
    "no square grid": (lambda w: changed(w, pos_embed=torch.zeros(1, 8, 64)), "no square grid"),
    "a hole in the blocks": (lambda w: {k.replace("blocks.1", "blocks.7"): v for k, v in w.items()}, "not numbered"),
    "a billion blocks": (lambda w: changed(w, blocks__999999__norm1__weight=torch.zeros(64)), "not numbered"),
    "a block twice": (lambda w: changed({**w, "mask_token": torch.zeros(1, 64), "blocks.0.ls1.gamma": torch.zeros(64)},
                                        blocks__0__1__norm1__bias=torch.zeros(64)), "both mean blocks.1.norm1.bias"),
    "another width inside": (lambda w: changed(w, blocks__1__attn__proj__weight=torch.zeros(32, 32)), r"is \[32, 32\]"),
    "another network": (lambda w: {"conv1.weight": torch.zeros(8, 3, 7, 7)}, "no vision transformer.*conv1.weight"),
    "no weights": (lambda w: {"epoch": 3, "lr": 0.1}, "no weights: only epoch, lr"),
    "a class token that is text": (lambda w: {**w, "cls_token": "x"}, "class token is no tensor"),
    "not finite": (lambda w: changed(w, norm__bias=torch.full((64,), float("inf"))), "norm.bias is not finite"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), REFUSED.values(), ids=REFUSED)
def test_what_ours_cannot_be_is_refused_with_its_reason(tmp_path, foreign, change, reason):
    path = save(tmp_path / "a.pth", change(foreign.weights("dino", width=64)))
    with pytest.raises(CheckpointError, match=rf"a\.pth: .*{reason}"):
        import_backbone(path)


def test_queries_and_keys_that_do_not_go_together_are_refused(tmp_path, foreign):
    weights = changed(foreign.weights("hf_dinov2"), **{
        "encoder__layer__0__attention__attention__key__weight": torch.zeros(5, 5)})  # fmt: skip
    with pytest.raises(CheckpointError, match=r"a\.pth: Sizes of tensors must match.*use another copy"):
        import_backbone(save(tmp_path / "a.pth", weights))


def test_a_std_of_zero_beside_the_file_is_refused(tmp_path, foreign):
    path = save(tmp_path / "timm.pth", foreign.weights("timm", width=64))
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0, 0, 0], "std": [0, 1, 1]}}))
    with pytest.raises(CheckpointError, match="no mean and std of three channels"):
        import_backbone(path)


def test_heads_that_nothing_tells_are_not_guessed(tmp_path, foreign):
    path = save(tmp_path / "a.pth", foreign.weights("dino", width=193))
    with pytest.raises(CheckpointError, match="does not say how many heads its width 193 has"):
        import_backbone(path)


def test_the_heads_of_the_public_huge_vits_are_not_one_per_64_channels(tmp_path, foreign):
    path = save(tmp_path / "a.pth", foreign.weights("dino", width=1280, depth=1, hidden=64))
    assert import_backbone(path).network.vit.num_heads == 16


def test_another_architecture_than_the_one_named_is_refused(tmp_path, foreign):
    path = save(tmp_path / "a.pth", foreign.weights("dino", width=64))
    with pytest.raises(CheckpointError, match="not a dino_vits16: embed_dim 64, not 384; depth 2, not 12"):
        import_backbone(path, architecture="dino_vits16")
    with pytest.raises(SettingsError, match="'resnet50' is no known architecture"):
        import_backbone(path, architecture="resnet50")
