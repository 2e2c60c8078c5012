"""The written cost formulas against torch's own counters."""

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sltdino.core.auto import settle
from sltdino.core.settings import PretrainSettings
from sltdino.models.cost import kept_bytes, step_flops, step_shape
from sltdino.models.student_teacher import StudentTeacher
from sltdino.objectives.algorithms import build_objective
from sltdino.pretraining.session import build_model

BATCH = 4
CASES: dict[str, dict[str, Any]] = {
    "dino": {"algorithm": "dino"},
    "ibot": {"algorithm": "ibot"},
    "two heads": {"algorithm": "ibot", "head": {"patch_out_dim": 40}},
    "plain head": {"algorithm": "dino", "head": {"batch_norm": False}, "loss": {"use_sinkhorn": False}},
    "scales": {"algorithm": "dino", "vit": {"layer_scale": 0.1}},
    "wide head": {"algorithm": "dino", "head": {"out_dim": 2048}},
    "no local crops": {"algorithm": "ibot", "augmentation": {"num_local_crops": 0}},
}


def settings_of(case: str) -> PretrainSettings:
    values: dict[str, Any] = {
        "train_dir": "crops",
        "augmentation": {"image_size": 64, "local_crop_size": 32, "num_local_crops": 3},
        "vit": {"patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 2, "registers": 1},
        "head": {"out_dim": 24, "hidden_dim": 80, "bottleneck_dim": 16},
    }
    for section, value in CASES[case].items():
        values[section] = {**values.get(section, {}), **value} if isinstance(value, dict) else value
    return settle(PretrainSettings.model_validate(values), num_images=100).settings


def forward(settings: PretrainSettings, model: StudentTeacher, share: float) -> torch.Tensor:
    crops = settings.augmentation
    global_crops = torch.randn(2 * BATCH, 3, 64, 64)
    local_crops = torch.randn(int(crops.num_local_crops) * BATCH, 3, 32, 32)
    masks = torch.zeros(2 * BATCH, 64, dtype=torch.bool)
    masks[:, : int(64 * share)] = True
    with torch.no_grad():
        teacher = model.teacher(global_crops, local_crops[:0], masks_GN=masks, hide_masked=False)
    student = model.student(global_crops, local_crops, masks_GN=masks, hide_masked=True)
    objective = build_objective(
        settings.algorithm, settings.loss, num_prototypes=int(settings.head.out_dim),
        num_patch_prototypes=teacher.patch_logits_MK.shape[-1],
    )  # fmt: skip
    total: torch.Tensor = objective(student, teacher, 0.04).total
    forward.held = (student, teacher)  # type: ignore[attr-defined]  # as `Trainer.step` holds them
    return total


@pytest.mark.parametrize("case", CASES)
def test_step_flops_are_what_torch_counts(case: str) -> None:
    settings = settings_of(case)
    share = 0.0 if settings.algorithm == "dino" else 0.25
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        forward(settings, build_model(settings), share).backward()
    shape = step_shape(settings.vit, settings.head, settings.augmentation)
    # KoLeo's and vecdot's few products are not in the formula
    assert step_flops(shape, masked_share=share) * BATCH == pytest.approx(counter.get_total_flops(), rel=0.01)


@pytest.mark.parametrize("case", CASES)
def test_kept_bytes_are_what_autograd_keeps(case: str) -> None:
    settings = settings_of(case)
    share = 0.0 if settings.algorithm == "dino" else 0.25
    model = build_model(settings)
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss = forward(settings, model, share)  # the graph holds every storage, so no address comes twice
    for outputs in forward.held:  # type: ignore[attr-defined]
        for logits in (outputs.cls_logits_CBK, outputs.patch_logits_MK):
            note(logits)
    shape = step_shape(settings.vit, settings.head, settings.augmentation)
    assert kept_bytes(shape, masked_share=share) * BATCH == pytest.approx(sum(kept.values()), rel=0.06)
    assert loss.requires_grad
