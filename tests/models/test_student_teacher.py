"""Heads, the pair of networks, and what each sees."""

import pytest
import torch
import torch.nn.functional as F

from sltdino.core.settings_network import HeadSettings, VitSettings
from sltdino.models.head import PrototypeHead
from sltdino.models.student_teacher import StudentTeacher, build_student_teacher

VIT = VitSettings(
    patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=4.0, registers=0, layer_scale=0.0, layer_norm_eps=1e-5
)
HEAD = HeadSettings(out_dim=20, hidden_dim=24, bottleneck_dim=16)


def pair(seed: int = 0, num_patch_prototypes: int = 0) -> StudentTeacher:
    return build_student_teacher(VIT, HEAD, image_size=32, num_patch_prototypes=num_patch_prototypes, seed=seed)


def test_scores_are_the_cosines_with_weight_normalised_prototypes() -> None:
    torch.manual_seed(0)
    head, tokens = PrototypeHead(32, 20, HEAD), torch.randn(10, 32)
    layer = torch.nn.Linear(16, 20, bias=False)
    layer.load_state_dict(head.prototypes.state_dict())
    reference = torch.nn.utils.parametrizations.weight_norm(layer)
    with torch.no_grad():
        reference.parametrizations.weight.original0.fill_(1.0)  # the norms, as DINO's norm_last_layer fixes them
        expected = reference(F.normalize(head.mlp(tokens), dim=-1))
        torch.testing.assert_close(head(tokens), expected)
    assert expected.abs().max() <= 1


def test_batch_norm_in_the_head_uses_the_rows_at_hand_in_evaluation_too() -> None:
    torch.manual_seed(0)
    head, tokens = PrototypeHead(32, 20, HEAD), 100 + 50 * torch.randn(64, 32)
    hidden = head.mlp[:2].eval()(tokens)
    torch.testing.assert_close(hidden.mean(dim=0), torch.zeros(24), atol=1e-4, rtol=0)
    torch.testing.assert_close(hidden.std(dim=0, unbiased=False), torch.ones(24), atol=1e-3, rtol=0)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_head_takes_less_rows_than_a_batch_norm_needs(rows: int) -> None:
    scores = PrototypeHead(32, 20, HEAD)(torch.randn(rows, 32))
    assert scores.shape == (rows, 20)
    assert scores.isfinite().all()


def test_the_student_is_shown_the_mask_and_the_teacher_is_not() -> None:
    network = pair().student.eval()
    images, masks = torch.randn(4, 3, 32, 32), torch.zeros(4, 16, dtype=torch.bool)
    masks[:, 3] = True
    changed = images.clone()
    changed[:, :, :8, 24:] = 0  # patch 3
    none = images[:0]

    def scores(x: torch.Tensor, hide: bool) -> torch.Tensor:
        return network(x, none, masks_GN=masks, hide_masked=hide).patch_logits_MK

    assert torch.equal(scores(images, True), scores(changed, True))
    assert not torch.equal(scores(images, False), scores(changed, False))


def test_outputs_are_crop_major_with_the_global_crops_first() -> None:
    network = pair().student.eval()
    global_crops, local_crops = torch.randn(2 * 3, 3, 32, 32), torch.randn(4 * 3, 3, 16, 16)
    out = network(global_crops, local_crops, masks_GN=torch.zeros(6, 16, dtype=torch.bool), hide_masked=True)
    assert out.cls_CBD.shape == (6, 3, 32)
    assert out.patch_logits_MK.shape == (0, 20)
    torch.testing.assert_close(out.cls_CBD[1], network.backbone(global_crops[3:]))
    torch.testing.assert_close(out.cls_CBD[5], network.backbone(local_crops[9:]))


def test_a_separate_patch_head_has_its_own_prototypes() -> None:
    network = pair(num_patch_prototypes=7).student
    masks = torch.ones(4, 16, dtype=torch.bool)
    out = network(torch.randn(4, 3, 32, 32), torch.zeros(0, 3, 16, 16), masks_GN=masks, hide_masked=True)
    assert out.cls_logits_CBK.shape[-1] == 20
    assert out.patch_logits_MK.shape == (64, 7)


def test_the_teacher_starts_as_the_student_and_follows_by_ema() -> None:
    model = pair()
    before = {key: value.clone() for key, value in model.teacher.state_dict().items()}
    assert all(torch.equal(value, model.student.state_dict()[key]) for key, value in before.items())
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(1.0)
    model.update_teacher(0.9)
    for key, value in model.teacher.state_dict().items():
        torch.testing.assert_close(value, 0.9 * before[key] + 0.1 * model.student.state_dict()[key])


def test_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = pair(seed=1).student.state_dict()
    torch.manual_seed(6)
    second = pair(seed=1).student.state_dict()
    assert all(torch.equal(value, second[key]) for key, value in first.items())
    assert not torch.equal(first["backbone.cls_token"], pair(seed=2).student.state_dict()["backbone.cls_token"])


def test_the_teacher_stays_in_evaluation_mode() -> None:
    model = pair().train()
    assert model.student.training
    assert not model.teacher.training
