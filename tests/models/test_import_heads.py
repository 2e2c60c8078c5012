"""Heads of public checkpoints: ours under their weights gives the scores of theirs."""

import pytest
import torch
import torch.nn.functional as F

from sltdino.core.settings_network import HeadSettings
from sltdino.models.head import PrototypeHead
from sltdino.models.import_heads import find_heads
from sltdino.models.import_weights import import_backbone

WIDTH = 64


def under(name, weights):
    return {f"{name}.{key}": value for key, value in weights.items()}


def scores(weights, tokens, *, last="last_layer"):
    """DINO's `DINOHead` in float64, without batch norm."""
    p = {key: value.double() for key, value in weights.items()}
    x = tokens.double()
    for i in ("0", "2"):
        x = F.gelu(F.linear(x, p[f"mlp.{i}.weight"], p[f"mlp.{i}.bias"]))
    x = F.normalize(F.linear(x, p["mlp.4.weight"], p["mlp.4.bias"]), dim=-1)
    direction = p[f"{last}.weight_v"]
    return F.linear(x, p[f"{last}.weight_g"] * direction / direction.norm(dim=1, keepdim=True))


def ours(head, tokens, *, batch_norm=False):
    settings = HeadSettings(hidden_dim=20, bottleneck_dim=8, batch_norm=batch_norm, out_dim=16)
    network = PrototypeHead(WIDTH, 16, settings)
    network.load_state_dict(head)
    with torch.no_grad():
        return network(tokens)


@pytest.fixture
def tokens():
    return torch.randn(5, WIDTH, generator=torch.Generator().manual_seed(3))


@pytest.fixture
def head(foreign):
    return foreign.filled(foreign.tables["dino_head"](WIDTH), 5)


def test_dino_s_head_gives_the_same_scores(head, tokens):
    found = find_heads(under("head", head))
    assert list(found.heads) == ["head"]
    torch.testing.assert_close(ours(found.heads["head"], tokens).double(), scores(head, tokens), rtol=1e-5, atol=1e-5)


def test_torch_s_new_weight_norm_is_the_same_head(head):
    new = {key.replace("weight_g", "parametrizations.weight.original0"): value for key, value in head.items()}
    new = {key.replace("weight_v", "parametrizations.weight.original1"): value for key, value in new.items()}
    assert find_heads(under("head", new)).heads.keys() == {"head"}
    for key, value in find_heads(under("head", new)).heads["head"].items():
        assert torch.equal(value, find_heads(under("head", head)).heads["head"][key])


def test_batch_norm_of_dino_is_ours_and_its_running_statistics_are_not_needed(head, tokens):
    norms = {f"mlp.{i}.{name}": torch.rand(20) + 0.5 for i in (1, 4) for name in ("weight", "bias", "running_mean")}
    moved = {key.replace("mlp.4.", "mlp.6.").replace("mlp.2.", "mlp.3."): value for key, value in head.items()}
    found = find_heads(under("head", {**moved, **norms}))
    x = tokens.double()
    for linear, norm in (("0", "1"), ("3", "4")):
        x = F.linear(x, moved[f"mlp.{linear}.weight"].double(), moved[f"mlp.{linear}.bias"].double())
        x = (x - x.mean(0)) / (x.var(0, unbiased=False) + 1e-5).sqrt()
        x = F.gelu(x * norms[f"mlp.{norm}.weight"] + norms[f"mlp.{norm}.bias"])
    x = F.normalize(F.linear(x, moved["mlp.6.weight"].double(), moved["mlp.6.bias"].double()), dim=-1)
    expected = F.linear(x, F.normalize(moved["last_layer.weight_v"].double(), dim=1))
    torch.testing.assert_close(
        ours(found.heads["head"], tokens, batch_norm=True).double(), expected, rtol=1e-4, atol=1e-4
    )


def test_ibot_s_second_last_layer_is_the_patch_head_unless_it_is_the_first_one(head, tokens):
    second = {"last_layer2.weight_g": torch.ones(16, 1), "last_layer2.weight_v": torch.randn(16, 8)}
    own = find_heads(under("head", {**head, **second})).heads
    expected = scores({**head, **second}, tokens, last="last_layer2")
    torch.testing.assert_close(ours(own["patch_head"], tokens).double(), expected, rtol=1e-5, atol=1e-5)
    shared = {key.replace("last_layer.", "last_layer2."): value for key, value in head.items() if "last" in key}
    assert list(find_heads(under("head", {**head, **shared})).heads) == ["head"]


def test_dinov2_s_two_heads_come_with_the_backbone_of_the_teacher(tmp_path, foreign, head):
    backbone, other = foreign.weights("dinov2", width=WIDTH), foreign.filled(foreign.tables["dino_head"](WIDTH), 6)
    teacher = {**under("backbone", backbone), **under("dino_head", head), **under("ibot_head", other)}
    torch.save({"teacher": teacher}, tmp_path / "a.pth")
    imported = import_backbone(tmp_path / "a.pth")
    assert torch.equal(imported.heads["head"]["prototypes.weight"], head["last_layer.weight_v"])
    assert torch.equal(imported.heads["patch_head"]["mlp.0.weight"], other["mlp.0.weight"])


CANNOT = {
    "norms": (lambda h: {**h, "last_layer.weight_g": torch.full((16, 1), 2.0)}, "norms other than one"),
    "layers": (lambda h: {key: value for key, value in h.items() if "mlp.2" not in key}, "layers 0, 4"),
    "no prototypes": (lambda h: {k: v for k, v in h.items() if "last" not in k}, "no layer of prototypes"),
    "plain": (lambda h: {**{k: v for k, v in h.items() if "last" not in k}, "last_layer.weight": torch.zeros(2, 8)},
              "not weight-normalised"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "reason"), CANNOT.values(), ids=CANNOT)
def test_a_head_that_ours_cannot_be_is_left_out_and_the_backbone_kept(tmp_path, foreign, head, change, reason):
    teacher = {**under("backbone", foreign.weights("dino", width=WIDTH)), **under("head", change(head))}
    torch.save(teacher, tmp_path / "a.pth")
    imported = import_backbone(tmp_path / "a.pth")
    assert imported.heads == {}
    assert any(note.startswith("head: left out") and reason in note for note in imported.notes)
