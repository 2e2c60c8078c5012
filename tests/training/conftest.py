"""A tiny run without files: networks of a few thousand weights on random crops."""

from collections.abc import Callable

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

BATCH = 8


@pytest.fixture
def tiny_trainer() -> Callable[..., Trainer]:
    """`tiny_trainer("ibot", head={...}, loss={...})` gives a trainer at step 0 of 40."""

    def make(algorithm: str, **sections: dict[str, object]) -> Trainer:
        values = {
            "train_dir": "crops",
            "algorithm": algorithm,
            "epochs": 4,
            "dataset": {"batch_size": BATCH},
            "augmentation": {"image_size": 32, "local_crop_size": 16, "num_local_crops": 2},
            "vit": {
                "patch_size": 8,
                "embed_dim": 16,
                "depth": 2,
                "num_heads": 2,
                "drop_path": 0.1,
                **sections.pop("vit", {}),
            },
            "head": {"out_dim": 32, "hidden_dim": 32, "bottleneck_dim": 8, **sections.pop("head", {})},
            **sections,
        }
        settings = settle(PretrainSettings.model_validate(values), num_images=80).settings
        prototypes = 32
        model = build_student_teacher(settings.vit, settings.head, image_size=32, num_patch_prototypes=0, seed=3)
        objective = build_objective(
            algorithm, settings.loss, num_prototypes=prototypes, num_patch_prototypes=prototypes
        )
        schedules = build_schedules(settings.optimizer, settings.loss, steps_per_epoch=10, total_steps=40)
        optimizer = build_optimizer(
            model.student,
            layer_decay=settings.optimizer.layer_decay,
            patch_embed_lr_scale=settings.optimizer.patch_embed_lr_scale,
            decay_embeddings=settings.optimizer.decay_embeddings,
        )
        return Trainer(model, objective, optimizer, schedules, seed=3, clip_grad_norm=3.0)

    return make


@pytest.fixture
def random_batch() -> Callable[..., Batch]:
    """`random_batch(step, "ibot")`: crops that are a function of the step."""

    def make(step: int, algorithm: str = "dino", images: int = BATCH) -> Batch:
        generator = torch.Generator().manual_seed(fold_in(1, step))
        masks = torch.rand(2 * images, 16, generator=generator) < (0.3 if masks_patches(algorithm) else 0.0)
        return Batch(
            torch.randn(2 * images, 3, 32, 32, generator=generator),
            torch.randn(2 * images, 3, 16, 16, generator=generator),
            masks,
        )

    return make
