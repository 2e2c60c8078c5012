"""A student and teacher that start from imported weights: what was adapted computes what it should."""

import pytest
import torch
import torch.nn.functional as F

from sltdino.core.settings_network import HeadSettings
from sltdino.models.import_weights import import_backbone
from sltdino.models.initial_weights import resample_kernel, start_from
from sltdino.models.student_teacher import build_student_teacher

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OTHER = ((0.1, 0.2, 0.6), (0.5, 0.3, 0.9))
HEAD = HeadSettings(out_dim=16, hidden_dim=20, bottleneck_dim=8, batch_norm=False)


@pytest.fixture
def imported(tmp_path, foreign):
    def imported(table="dinov2", heads=None, **size):
        weights = foreign.weights(table, width=64, **size)
        content = {f"backbone.{key}": value for key, value in weights.items()}
        for name, head in (heads or {}).items():
            content |= {f"{name}.{key}": value for key, value in head.items()}
        torch.save(content, tmp_path / "a.pth")
        return import_backbone(tmp_path / "a.pth")

    return imported


def model_for(imported, *, image_size=12, patch_prototypes=0, head=HEAD, **vit):
    settings = imported.network.vit.model_copy(update=vit)
    return build_student_teacher(settings, head, image_size=image_size, num_patch_prototypes=patch_prototypes, seed=3)


def picture(side=12):
    return torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(2))


def normalised(picture, mean, std):
    return (picture - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def same(one, other):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def features(network, images):
    with torch.no_grad():
        return network.eval().forward_features(images)


@pytest.mark.parametrize("registers", [0, 3])
def test_student_and_teacher_compute_what_the_weights_compute(imported, registers):
    source = imported(registers=registers)
    model = model_for(source)
    start_from(model, source, mean=source.mean, std=source.std)
    images = normalised(picture(), *IMAGENET)
    for network in (model.student, model.teacher):
        assert all(torch.equal(a, b) for a, b in zip(features(network.backbone, images),
                                                     features(source.network, images), strict=True))  # fmt: skip


def test_under_another_mean_and_std_they_compute_the_same_of_a_picture(imported):
    source = imported()
    model = model_for(source)
    notes = start_from(model, source, mean=OTHER[0], std=OTHER[1])
    ours = features(model.student.backbone, normalised(picture(), *OTHER))
    same(ours, features(source.network, normalised(picture(), *IMAGENET)))
    assert any(note.startswith("patch embedding: rewritten") for note in notes)


def test_another_grid_has_torch_s_bicubic_of_the_positions(imported):
    source = imported(grid=5)
    model = model_for(source, image_size=12)
    notes = start_from(model, source, mean=source.mean, std=source.std)
    stored = source.network.pos_embed
    grid = stored[:, 1:].transpose(1, 2).reshape(1, 64, 5, 5)
    expected = F.interpolate(grid, size=(3, 3), mode="bicubic", align_corners=False).flatten(2).transpose(1, 2)
    assert torch.allclose(model.student.backbone.pos_embed[:, 1:], expected, atol=1e-6)
    assert torch.equal(model.student.backbone.pos_embed[:, 0], stored[:, 0])
    assert "positions: resampled bicubically from 5 × 5 to 3 × 3" in notes


def test_a_kernel_resampled_to_larger_patches_gives_the_same_of_enlarged_patches():
    kernel = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    patches = torch.randn(7, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    enlarged = F.interpolate(patches, size=(6, 6), mode="bilinear", align_corners=False)
    expected = torch.einsum("dcij,ncij->nd", kernel, patches)
    torch.testing.assert_close(
        torch.einsum("dcij,ncij->nd", resample_kernel(kernel, 6), enlarged), expected, rtol=1e-4, atol=1e-4
    )


def test_a_patch_size_of_its_own_takes_the_resampled_kernels(imported):
    source = imported()
    model = model_for(source, image_size=18, patch_size=6)
    notes = start_from(model, source, mean=source.mean, std=source.std)
    assert torch.equal(
        model.student.backbone.patch_embed.proj.weight, resample_kernel(source.network.patch_embed.proj.weight, 6)
    )
    assert "patch embedding: kernels resampled from 4 to 6 pixels" in notes


def test_registers_are_kept_then_added_or_dropped_with_a_note(imported):
    source = imported(registers=3)
    for count, note in ((5, "registers: 2 added, which start at random"), (2, "registers: 1 of 3 dropped")):
        model = model_for(source, registers=count)
        fresh = model.student.backbone.reg_token.detach().clone()
        notes = start_from(model, source, mean=source.mean, std=source.std)
        registers = model.student.backbone.reg_token
        kept = min(3, count)
        assert torch.equal(registers[:, :kept], source.network.reg_token[:, :kept])
        assert torch.equal(registers[:, 3:], fresh[:, 3:])
        assert any(line.startswith(note) for line in notes)
    model = model_for(source, registers=0)
    assert any("3 of 3 dropped" in line for line in start_from(model, source, mean=source.mean, std=source.std))
    assert model.student.backbone.reg_token is None


def test_heads_start_as_in_the_file_where_they_fit_and_else_at_random_with_the_reason(imported, foreign):
    head, other = (foreign.filled(foreign.tables["dino_head"](64, prototypes=k), k) for k in (16, 12))
    source = imported(heads={"dino_head": head, "ibot_head": other})
    model = model_for(source, patch_prototypes=12)
    notes = start_from(model, source, mean=source.mean, std=source.std)
    assert {"head: as in the file", "patch_head: as in the file"} <= set(notes)
    assert torch.equal(model.teacher.head.prototypes.weight, head["last_layer.weight_v"])
    assert torch.equal(model.student.patch_head.mlp[0].weight, other["mlp.0.weight"])

    model = model_for(source, patch_prototypes=9)
    fresh = model.student.patch_head.mlp[0].weight.detach().clone()
    notes = start_from(model, source, mean=source.mean, std=source.std)
    assert "patch_head: starts at random, because prototypes.weight is [12, 8] in the file and [9, 8] here" in notes
    assert torch.equal(model.student.patch_head.mlp[0].weight, fresh)

    model = model_for(source, head=HEAD.model_copy(update={"batch_norm": True}))
    notes = start_from(model, source, mean=source.mean, std=source.std)
    assert "head: starts at random, because the file's has no batch norm" in notes
    assert "patch_head: left out, because the run has no patch head of its own" in notes


def test_another_epsilon_is_said(imported):
    source = imported()
    model = model_for(source, layer_norm_eps=1e-5)
    notes = start_from(model, source, mean=source.mean, std=source.std)
    assert "LayerNorm: the run computes with epsilon 1e-05, the weights were trained with 1e-06" in notes
