"""From settled settings to the parts of a run."""

from contextlib import suppress
from typing import NamedTuple

import torch
from torch import Tensor

from sltdino.core.auto import Plan, plan
from sltdino.core.distributed import World
from sltdino.core.rng import generator
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_base import known
from sltdino.data.batches import BatchBuilder
from sltdino.data.decode import BadImage as UnreadableImage
from sltdino.data.image_folder import ImageFolder
from sltdino.errors import DataError
from sltdino.evaluation.features import Pixels
from sltdino.models.import_weights import ImportedBackbone
from sltdino.models.initial_weights import start_from
from sltdino.models.layout import calibrate
from sltdino.models.student_teacher import StudentTeacher, build_student_teacher
from sltdino.objectives.algorithms import build_objective, masks_patches
from sltdino.pretraining.probes import Probes, build_probes
from sltdino.training.batches import build_batches
from sltdino.training.optimizer import build_optimizer
from sltdino.training.schedules import build_schedules
from sltdino.training.trainer import Trainer

CALIBRATION_IMAGES = 512
COPIES = 4
"""Checkpoints on the disk at once, at most: the last, the previous, the best and the one being written."""


class Session(NamedTuple):
    """Everything that a run's loop works with."""

    settings: PretrainSettings
    world: World
    images: ImageFolder
    plan: Plan
    trainer: Trainer
    batches: BatchBuilder
    probes: Probes
    adapted: list[str]
    """What was adapted or left out of the weights that it starts from, a line each."""


def build_session(
    settings: PretrainSettings,
    images: ImageFolder,
    world: World,
    *,
    initial: ImportedBackbone | None = None,
    is_resumed: bool = False,
) -> Session:
    """Build model, objective, optimizer and data of a run whose settings are settled.

    Args:
        initial: weights to start from; without them, at random.
        is_resumed: whether a checkpoint is loaded next, over whatever the networks started from.

    Raises:
        DataError: fewer images than one step needs. SettingsError: as `build_probes`.
    """
    steps = plan(settings, num_images=len(images), world_size=world.size)
    batches = build_batches(settings, images, world)
    probes = build_probes(settings, images)
    model = build_model(settings)
    adapted = [] if is_resumed else start_weights(model, settings, images, initial)
    trainer = build_trainer(model, settings, steps, world)
    return Session(settings, world, images, steps, trainer, batches, probes, adapted)


def with_length(session: Session, settings: PretrainSettings) -> Session:
    """The session of the same run with the settings of another length, before its first step."""
    steps = plan(settings, num_images=len(session.images), world_size=session.world.size)
    trainer = build_trainer(session.trainer.model, settings, steps, session.world)
    return session._replace(settings=settings, plan=steps, trainer=trainer)


def adapt_trainer(session: Session, settings: PretrainSettings) -> None:
    """Give the run's trainer the schedules, and its objective the weights, of other settings; all state stays."""
    steps, trainer = session.plan, session.trainer
    trainer.schedules = build_schedules(
        settings.optimizer, settings.loss, steps_per_epoch=steps.steps_per_epoch, total_steps=steps.total_steps
    )
    trainer.objective.adapt(settings.loss)


def masked_share(settings: PretrainSettings) -> float:
    """The share of the patches of all global crops that a student has to predict."""
    loss = settings.loss
    return loss.patch_mask_ratio * loss.patch_mask_prob if masks_patches(settings.algorithm) else 0.0


def build_model(settings: PretrainSettings) -> StudentTeacher:
    """The fresh pair of networks of a run whose settings are settled, on torch's default device."""
    return build_student_teacher(
        settings.vit,
        settings.head,
        image_size=settings.augmentation.image_size,
        num_patch_prototypes=_num_patch_prototypes(settings) if _has_patch_head(settings) else 0,
        seed=settings.seed,
    )


def checkpoint_bytes(model: StudentTeacher) -> int:
    """Of one checkpoint: student, teacher and AdamW's two moments, in float32."""
    return 16 * sum(parameter.numel() for parameter in model.student.parameters())


def start_weights(
    model: StudentTeacher, settings: PretrainSettings, images: ImageFolder, initial: ImportedBackbone | None
) -> list[str]:
    """Give the fresh networks the weights they start from; what was adapted or left out of them, a line each.

    Raises:
        DataError: the start is to be calibrated and hardly an image can be read.
    """
    crops = settings.augmentation
    if initial is not None:
        return [*initial.notes, *start_from(model, initial, mean=crops.mean, std=crops.std)]
    if settings.vit.weight_init == "layout":
        _calibrate(model, images, settings)
    return []


def build_trainer(model: StudentTeacher, settings: PretrainSettings, steps: Plan, world: World) -> Trainer:
    """Objective, optimizer and schedules of a run whose settings are settled, around its networks."""
    model = model.to(world.device)
    objective = build_objective(
        settings.algorithm,
        settings.loss,
        num_prototypes=known(settings.head.out_dim),
        num_patch_prototypes=_num_patch_prototypes(settings),
    ).to(world.device)
    schedules = build_schedules(
        settings.optimizer, settings.loss, steps_per_epoch=steps.steps_per_epoch, total_steps=steps.total_steps
    )
    return Trainer(
        model,
        objective,
        build_optimizer(
            model.student,
            layer_decay=settings.optimizer.layer_decay,
            patch_embed_lr_scale=settings.optimizer.patch_embed_lr_scale,
            decay_embeddings=settings.optimizer.decay_embeddings,
        ),
        schedules,
        seed=settings.seed,
        clip_grad_norm=settings.optimizer.clip_grad_norm,
        autocast=uses_autocast(settings, world),
    )


def uses_autocast(settings: PretrainSettings, world: World) -> bool:
    """Whether the forward pass computes in bfloat16."""
    on_cuda = torch.device(world.device).type == "cuda"
    return settings.precision == "bf16" or (settings.precision == "auto" and on_cuda)


def _has_patch_head(settings: PretrainSettings) -> bool:
    return masks_patches(settings.algorithm) and settings.head.patch_out_dim != "shared"


def _num_patch_prototypes(settings: PretrainSettings) -> int:
    own = settings.head.patch_out_dim
    return known(settings.head.out_dim) if own == "shared" else own


def _calibrate(model: StudentTeacher, images: ImageFolder, settings: PretrainSettings) -> None:
    """Fit the layout start of both networks to a fixed sample of the training images."""
    crops = settings.augmentation
    pixels = Pixels(crops.image_size, crops.mean, crops.std)
    order = generator(settings.seed, "calibration").permutation(len(images)).tolist()
    sample: list[Tensor] = []
    for index in order[: 2 * CALIBRATION_IMAGES]:
        with suppress(UnreadableImage):  # counted when training meets it
            sample.append(pixels.load(images.path(index)))
        if len(sample) == CALIBRATION_IMAGES:
            break
    if not sample:
        raise DataError(f"none of {len(order[: 2 * CALIBRATION_IMAGES])} images tried can be read; look at the files")
    backbone = model.teacher.backbone.eval()  # else stochastic depth would draw from torch's global generator
    calibrate(backbone, torch.stack(sample))
    model.student.backbone.load_state_dict(backbone.state_dict())
