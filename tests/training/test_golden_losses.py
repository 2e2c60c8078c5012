"""Twenty tiny steps whose losses are stored: a refactor keeps them, a numeric change shows the new ones and says why.

Print new ones with `python -m tests.training.test_golden_losses`.
"""

import pytest
import torch

from sltdino.core.auto import settle
from sltdino.core.rng import fold_in
from sltdino.core.settings import PretrainSettings
from sltdino.models.student_teacher import build_student_teacher
from sltdino.objectives.algorithms import build_objective, masks_patches
from sltdino.training.optimizer import build_optimizer
from sltdino.training.schedules import build_schedules
from sltdino.training.trainer import Trainer
from sltdino.types import Batch

GOLDEN: dict[str, list[float]] = {
    "dino": [
        5.3769393,
        4.7393036,
        4.4029503,
        4.6136112,
        4.8034987,
        4.3896637,
        4.6938086,
        5.1187239,
        5.0106554,
        4.6925154,
        4.8253841,
        5.7177334,
        5.2115068,
        5.4150748,
        5.3037858,
        5.5184488,
        5.2881494,
        5.1239300,
        4.7661085,
        5.1699924,
    ],
    "ibot": [
        8.8881397,
        8.8038845,
        8.8173370,
        8.5597115,
        8.5824108,
        8.5254803,
        8.3822765,
        8.0682106,
        8.4658899,
        8.1828575,
        8.3390722,
        8.3431215,
        7.8558283,
        8.3182611,
        8.2419062,
        8.3981419,
        8.4345608,
        8.3610878,
        8.5248814,
        8.5774450,
    ],
    "dinov2": [
        12.6637592,
        12.3753881,
        11.8149738,
        11.5470963,
        11.4903488,
        11.2129087,
        10.9364834,
        10.7810602,
        11.2943592,
        10.7480927,
        10.5902042,
        10.6083689,
        9.9152451,
        10.4998970,
        10.3219290,
        10.5124254,
        10.5982399,
        9.8015594,
        10.1635456,
        9.9989595,
    ],
}
STEPS = 20


def losses(algorithm: str) -> list[float]:
    """Everything is given, so that no default and no auto rule can move these numbers."""
    settings = PretrainSettings.model_validate({
        "train_dir": "crops", "algorithm": algorithm, "epochs": 2, "dataset": {"batch_size": 8},
        "augmentation": {"image_size": 32, "local_crop_size": 16, "num_local_crops": 2},
        "vit": {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 4.0, "drop_path": 0.1,
                "layer_scale": 0.5, "registers": 1, "layer_norm_eps": 1e-5, "positions": "random",
                "weight_init": "trunc_normal"},
        "head": {"out_dim": 48, "hidden_dim": 64, "bottleneck_dim": 16, "batch_norm": algorithm != "ibot"},
        "loss": {"student_temp": 0.1, "standardize_teacher": False, "teacher_temp": 0.09, "teacher_temp_start": 0.06,
                 "teacher_temp_warmup_epochs": 1, "center_momentum": 0.9, "use_sinkhorn": algorithm == "dinov2",
                 "sinkhorn_eps": "auto", "sinkhorn_iters": 3, "koleo_weight": 0.1, "koleo_epsilon": 1e-4,
                 "patch_loss_weight": 1.0},
        "optimizer": {"learning_rate": 3e-4, "min_learning_rate": 1e-5, "warmup_epochs": 0.5, "weight_decay": 0.04,
                      "weight_decay_final": 0.4, "teacher_momentum_base": 0.9, "teacher_momentum_final": 1.0,
                      "clip_grad_norm": 3.0, "freeze_last_layer_epochs": 0.1},
    })  # fmt: skip
    settings = settle(settings, num_images=80).settings
    model = build_student_teacher(settings.vit, settings.head, image_size=32, num_patch_prototypes=0, seed=7)
    objective = build_objective(algorithm, settings.loss, num_prototypes=48, num_patch_prototypes=48)
    schedules = build_schedules(settings.optimizer, settings.loss, steps_per_epoch=10, total_steps=STEPS)
    trainer = Trainer(model, objective, build_optimizer(model.student), schedules, seed=7, clip_grad_norm=3.0)
    return [trainer.step([batch(step, masks_patches(algorithm))]).metrics["loss"].item() for step in range(STEPS)]


def batch(step: int, masked: bool) -> Batch:
    generator = torch.Generator().manual_seed(fold_in(1, step))
    images = torch.randn(8, 3, 32, 32, generator=generator)
    noise = torch.randn(2 * 8, 3, 32, 32, generator=generator)
    masks = torch.rand(16, 16, generator=generator) < (0.3 if masked else 0.0)
    return Batch(images.repeat(2, 1, 1, 1) + 0.5 * noise, images[..., 8:24, 8:24].repeat(2, 1, 1, 1), masks)


@pytest.mark.parametrize("algorithm", list(GOLDEN))
def test_losses_are_the_stored_ones(algorithm: str) -> None:
    assert losses(algorithm) == pytest.approx(GOLDEN[algorithm], rel=1e-5)


@pytest.mark.parametrize("algorithm", list(GOLDEN))
def test_losses_are_bit_equal_when_repeated(algorithm: str) -> None:
    assert losses(algorithm) == losses(algorithm)


if __name__ == "__main__":
    for name in GOLDEN:
        print(f'    "{name}": [')
        values = losses(name)
        for start in range(0, STEPS, 5):
            print("        " + " ".join(f"{value:.7f}," for value in values[start : start + 5]))
        print("    ],")
