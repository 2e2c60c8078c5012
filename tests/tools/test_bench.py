"""The written FLOP formula against torch's own counter."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sltdino.core.auto import settle
from sltdino.core.settings import PretrainSettings
from sltdino.models.student_teacher import build_student_teacher
from tools.bench import step_flops


@pytest.mark.parametrize("masked", [0.0, 0.25])
def test_step_flops_are_what_torch_counts(masked: float) -> None:
    batch = 4
    values = {
        "train_dir": "crops",
        "augmentation": {"image_size": 32, "local_crop_size": 16, "num_local_crops": 3},
        "vit": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "registers": 1},
        "head": {"out_dim": 24, "hidden_dim": 40, "bottleneck_dim": 8},
    }
    settings = settle(PretrainSettings.model_validate(values), num_images=100).settings
    model = build_student_teacher(settings.vit, settings.head, image_size=32, num_patch_prototypes=0, seed=0)
    global_crops = torch.randn(2 * batch, 3, 32, 32)
    local_crops = torch.randn(3 * batch, 3, 16, 16)
    masks = torch.zeros(2 * batch, 16, dtype=torch.bool)
    masks[:, : int(16 * masked)] = True
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        with torch.no_grad():
            model.teacher(global_crops, torch.zeros(0, 3, 16, 16), masks_GN=masks, hide_masked=False)
        out = model.student(global_crops, local_crops, masks_GN=masks, hide_masked=True)
        (out.cls_logits_CBK.sum() + out.patch_logits_MK.sum()).backward()
    assert step_flops(settings, masked_share=masked) * batch == pytest.approx(counter.get_total_flops(), rel=0.01)
