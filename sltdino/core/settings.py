"""Every knob of a pre-training run, declared once.

A field's docstring is its `--help` text, its type and bounds are its validation, its default is the default everywhere,
and its `Knob` says how it is spelt and whether a resumed run may change it. `cli/options.py` derives the flags and
`core/settings_files.py` the keys of a file; nothing else lists them. `auto` values are settled by `core/auto.py`.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from sltdino.core.settings_base import Auto, Count, Epochs, Knob, Positive, Probability, Scale, Section, whole
from sltdino.core.settings_checks import cross_field_problems
from sltdino.core.settings_network import HeadSettings, VitSettings


class DatasetSettings(Section):
    """Reading images and forming batches."""

    title = "Data"
    flag_prefix = "dataset-"
    file_aliases = ("dataloader",)
    resume = "free"

    batch_size: Annotated[Positive, Knob("--batch-size", resume="identity")] = 32
    """Images per process in one forward pass."""
    num_workers: Annotated[Count | Auto, Knob("--num-workers")] = "auto"
    """Processes that decode and crop; auto: as many as cores, at most 8. Any number gives the same batches."""
    shuffle: Annotated[bool, Knob(resume="identity")] = True
    """Visit the images in a new random order every epoch."""
    pin_memory: bool = False
    """Copy batches to page-locked memory, for faster transfer to a GPU."""
    persistent_workers: bool = False
    """Kept for old files: workers always live as long as the run, because batches are one stream."""
    cache: Literal["none", "ram"] = "none"
    """Keep decoded pixels in memory shared by the workers."""
    max_bad_fraction: Probability = 0.01
    """Stop when more than this share of the images cannot be read."""
    exclude: Annotated[Path | None, Knob("--exclude")] = None
    """List of images to leave out, as `sltdino check` writes it."""


class AugmentationSettings(Section):
    """Multi-crop and colour."""

    title = "Augmentation"
    flag_prefix = "aug-"
    file_aliases = ("augmentations",)

    image_size: Annotated[Positive, Knob("--image-size", resume="identity")] = 224
    """Side of the global crops, in pixels."""
    local_crop_size: Annotated[Positive | Auto, Knob("--local-crop-size", resume="identity")] = "auto"
    """Side of the local crops, in pixels; auto: 3/7 of the image size, in whole patches (96 for 224)."""
    num_global_crops: Annotated[int, Field(ge=2, le=2), Knob("--global-crops", ("global_crops",), "identity")] = 2
    """Global crops per image; the objectives are defined for two."""
    num_local_crops: Annotated[Count | Auto, Knob("--num-local-crops", resume="identity")] = "auto"
    """Local crops per image; auto: none under 20,000 images, where they teach light and colour, else 4."""
    global_crop_scale: Annotated[Scale, Knob("--global-crop-scale")] = (0.7, 1.0)
    """Smallest and largest share of the image's area in a global crop."""
    local_crop_scale: Annotated[Scale, Knob("--local-crop-scale")] = (0.25, 0.5)
    """Smallest and largest share of the image's area in a local crop."""
    brightness: Annotated[float, Field(ge=0)] = 0.4
    """Brightness factor is drawn from 1 ± this."""
    contrast: Annotated[float, Field(ge=0)] = 0.4
    """Contrast factor is drawn from 1 ± this."""
    saturation: Annotated[float, Field(ge=0)] = 0.2
    """Saturation factor is drawn from 1 ± this."""
    hue: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Hue shift is drawn from ± this share of the colour circle."""
    color_jitter_prob: Probability = 0.8
    """Probability of the four colour changes together."""
    grayscale_prob: Probability = 0.2
    """Probability of dropping the colour."""
    gaussian_blur_prob: Probability | Auto = "auto"
    """Probability of blur; auto: DINO's 1.0 for the first global crop, 0.1 for the second, 0.5 for local crops."""
    solarize_prob: Probability | Literal["dino"] | Auto = "auto"
    """Probability of inverting bright pixels; dino: 0.2 for the second global crop, 0 for the others; auto: 0 under
    20,000 images, else dino."""
    rotation: Annotated[float, Field(ge=0, le=45)] | Auto = "auto"
    """Crops are turned by an angle drawn from ± so many degrees; what comes from beyond their edges is mirrored. auto:
    10 under 20,000 images, else 0."""
    light: Annotated[float, Field(ge=0, le=0.3)] | Auto = "auto"
    """Uneven light on every crop: a slope across, one down, and a glow or shade in the middle, each drawn from ± this
    share of the light; at 0.3, the most, a corner can go dark. auto: 0.3 under 20,000 images, where a run else learns
    the light and not the hand, else 0."""
    hflip_prob: Probability = 0.5
    """Probability of mirroring a crop. Left and right mean something in signing."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Mean subtracted from each channel (of values in 0..1)."""
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (
        0.229,
        0.224,
        0.225,
    )
    """Standard deviation each channel is divided by."""


class LossSettings(Section):
    """The objective."""

    title = "Objective"

    student_temp: Annotated[float, Field(gt=0)] = 0.1
    """Temperature of the student's softmax."""
    standardize_teacher: bool | Auto = "auto"
    """Divide the teacher's centered scores by their standard deviation, so that targets are never uniform and the
    temperature counts in standard deviations; auto: under 20,000 images."""
    teacher_temp: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Final temperature of the teacher's softmax; auto: by the number of images."""
    teacher_temp_start: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Teacher temperature of the first step; auto: the smaller of 0.04 and the final one, or as the final one."""
    teacher_temp_warmup_epochs: Annotated[float, Field(ge=0)] | Auto = "auto"
    """Epochs over which the teacher temperature rises; auto: 30, at most 30 % of the run."""
    center_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of the running center of the teacher's logits."""
    use_sinkhorn: Annotated[bool | Auto, Knob(resume="identity")] = "auto"
    """Balance the teacher's assignments with Sinkhorn-Knopp in place of the center; auto: for dinov2, and for any
    algorithm under 20,000 images."""
    sinkhorn_eps: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Sharpness of Sinkhorn-Knopp; auto: the teacher temperature's schedule."""
    sinkhorn_iters: Positive = 3
    """Sinkhorn-Knopp iterations."""
    koleo_weight: Annotated[float, Field(ge=0)] = 0.1
    """Weight of the KoLeo term, which spreads features."""
    koleo_epsilon: Annotated[float, Field(gt=0)] = 1e-4
    """Added to nearest-neighbour distances, so that duplicates stay finite."""
    patch_loss_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the masked-patch term of ibot and dinov2."""
    patch_mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.3
    """Mean share of masked patches in a masked image; the share of one image is drawn from ratio ± 0.2."""
    patch_mask_block: Positive = 4
    """Fewest patches of a masked block, where as many are left to mask; DINOv2 has 4, iBOT 16 of 196."""
    patch_mask_prob: Probability = 0.5
    """Share of the global crops that are masked."""


class OptimizerSettings(Section):
    """AdamW and the schedules."""

    title = "Optimisation"

    learning_rate: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Peak learning rate; auto: 5e-4 · sqrt(images per step / 32) under 20,000 images, else
    DINO's 5e-4 · images per step / 256; at most 2e-3. A paper's preset has its own rule."""
    min_learning_rate: Annotated[float, Field(ge=0)] = 1e-6
    """Learning rate at the end of the cosine."""
    warmup_epochs: Annotated[float, Field(ge=0)] | Auto = "auto"
    """Epochs of linear warm-up; auto: 10, at most a tenth of the run."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.04
    """Weight decay of matrices at the start; biases, norms and other 1-D parameters have none."""
    weight_decay_final: Annotated[float, Field(ge=0)] = 0.4
    """Weight decay at the end of its cosine."""
    decay_embeddings: Annotated[bool, Knob(resume="identity")] = False
    """Also decay positions and tokens, as the code of DINO, iBOT and DINOv2 does; without it they have none."""
    teacher_momentum_base: Probability | Auto = "auto"
    """EMA momentum of the teacher at the start; auto: a horizon of a fifteenth of the run's steps, 0.9 to 0.996."""
    teacher_momentum_final: Probability = 1.0
    """EMA momentum of the teacher at the end of its cosine."""
    clip_grad_norm: Annotated[float, Field(ge=0)] = 3.0
    """Largest gradient norm; 0 turns clipping off."""
    freeze_last_layer_epochs: Annotated[float, Field(ge=0)] | Auto = "auto"
    """Epochs in which the prototypes stay fixed; auto: 1, at most 2 % of the run."""
    freeze_backbone_epochs: Annotated[float, Field(ge=0)] = 0.0
    """Epochs in which only the heads learn; for --init-from with heads that start at random."""
    layer_decay: Annotated[float, Field(gt=0, le=1), Knob(resume="identity")] = 1.0
    """Factor of the learning rate from each block to the one below it; 1 is the same for all, DINOv2 has 0.9."""
    patch_embed_lr_scale: Annotated[float, Field(ge=0), Knob(resume="identity")] = 1.0
    """Factor of the patch embedding's learning rate, beside the layer decay; DINOv2 has 0.2."""
    accumulate_steps: Annotated[Positive, Knob(resume="identity")] = 1
    """Forward passes whose gradients make one step."""


class EvaluationSettings(Section):
    """Judging the features while training."""

    title = "Evaluation"
    resume = "free"

    val_dir: Path | None = None
    """Folder of held-out images, a sub-folder for each label: k-NN accuracy on it picks the best checkpoint. Without
    labels, or without the folder, RankMe and other measures that need none follow the features."""
    eval_every: Epochs | Auto = "auto"
    """Epochs between evaluations, also a part of one; auto: about ten evaluations a run."""
    knn_k: Positive = 20
    """Neighbours of the weighted k-NN."""
    knn_temp: Annotated[float, Field(gt=0)] = 0.07
    """Temperature of the neighbours' votes."""

    @field_validator("eval_every")
    @classmethod
    def _whole_where_it_is(cls, value: float | Auto) -> float | Auto:
        return value if value == "auto" else whole(value)


class CheckpointSettings(Section):
    """Files of the run folder."""

    title = "Checkpoints"
    flag_prefix = "checkpoint-"
    file_aliases = ("checkpoint", "checkpoints")
    resume = "free"

    best_name: str = "checkpoint_best.pt"
    """File name of the best checkpoint."""
    last_name: str = "checkpoint_last.pt"
    """File name of the last checkpoint."""
    history_file: Annotated[str, Knob(resume="identity")] = "metrics.jsonl"
    """File name of the metrics."""
    save_every_minutes: Annotated[float, Field(gt=0), Knob("--save-every-minutes")] = 15.0
    """Minutes between checkpoints inside an epoch; each epoch ends with one."""

    @field_validator("best_name", "last_name", "history_file")
    @classmethod
    def _is_a_file_name(cls, value: str) -> str:
        if value in ("", ".", "..") or "/" in value or "\\" in value or "\0" in value:
            raise ValueError(f"must be a file name inside the run folder, not a path (got {value!r})")
        return value


class ExperimentSettings(Section):
    """What people call the run."""

    title = "Experiment"
    flag_prefix = "experiment-"
    resume = "free"

    name: str = ""
    """Name of the experiment."""
    notes: str = ""
    """Free text kept with the run."""
    tags: Annotated[tuple[str, ...], Knob("--experiment-tag", ("tag",))] = ()
    """Label of the run; several are a list, or the flag repeated."""

    @field_validator("tags", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


class PretrainSettings(Section):
    """All settings of a run."""

    train_dir: Annotated[tuple[Path, ...], Field(min_length=1), Knob(resume="trajectory")]
    """Image file, or folder searched recursively; several are a list, or the flag repeated."""
    output_dir: Annotated[Path | None, Knob(resume="free")] = None
    """Run folder; by default work_dirs/<algorithm>_<stream>."""
    stream: Annotated[str, Field(min_length=1), Knob(resume="identity")] = "crops"
    """What the crops show; recorded with the run and its exports."""
    preset: Annotated[
        Literal["none", "laptop", "dino", "ibot", "dinov2", "signmusketeers"], Knob(resume="identity")
    ] = "none"
    """Named bundle of defaults. laptop: a small ViT at 64 px for hundreds to thousands of crops and a few CPU cores,
    from the starter weights where their size is kept.
    dino, ibot, dinov2: the papers' recipes for a ViT-S and a million images, however few there are. signmusketeers: for
    signing, from DINOv2's ViT-S/14 with registers, which --init-from must name. In these four the learning rate
    follows the batch, warm-ups shrink under 100 epochs, and mirroring and hue stay those of hands or faces."""
    algorithm: Annotated[Literal["dino", "ibot", "dinov2"], Knob(resume="identity")] = "dino"
    """Self-supervised objective."""
    init_from: Annotated[str | None, Knob(resume="identity")] = None
    """Weights to start from: a file of DINO, iBOT, DINOv2, timm, Hugging Face or SLT, a run, hf::REPO[:FILE], or
    `starter`: a small ViT that comes with sltdino and has seen drawn hands and faces only; the backbone's size follows
    them. `none` starts at random."""
    init_resample_patch: Annotated[bool, Knob(resume="identity")] = False
    """Resample the patch kernels of --init-from where --patch-size is another."""
    epochs: Epochs | Auto = "auto"
    """Passes over the data, also a part of one; every schedule spans them. auto: 100, or what the minutes allow."""
    train_minutes: Annotated[Annotated[float, Field(gt=0)] | None, Knob(resume="identity")] = None
    """How long training may take in place of --epochs, evaluations and checkpoints included: timed on this machine at
    the start and turned into a number of steps once, which a resumed run keeps."""
    pseudo_epochs: Positive = 1
    """Times the data is repeated within one epoch."""
    seed: Annotated[int, Field(ge=0), Knob(resume="identity")] = 42
    """Seed of everything random."""
    device: Annotated[str, Knob(resume="free")] = "auto"
    """cpu, cuda, cuda:N or mps; auto takes a GPU where there is one."""
    precision: Annotated[Literal["fp32", "bf16"] | Auto, Knob(resume="identity")] = "auto"
    """Arithmetic of the forward pass; auto: bf16 on CUDA, else fp32. Losses are always fp32."""
    log_interval: Annotated[Positive, Knob(resume="free")] = 10
    """Steps between metric records."""
    track: Annotated[tuple[Literal["tensorboard", "wandb"], ...], Knob(resume="free")] = ()
    """Where metrics, crops and settings also go: tensorboard (RUN/tensorboard) or wandb; several are a list, or the
    flag repeated. One that fails is switched off, and the run goes on."""
    on_collapse: Annotated[Literal["adapt", "stop", "ignore"], Knob(resume="free")] = "adapt"
    """When the features have collapsed for a twentieth of the run (at least 100, at most 1,000 steps): adapt the
    settings (standardized targets, temperature, KoLeo, learning rate) at most three times and then stop; stop, saved,
    with exit code 3; or go on. A loss that only stays at that of guessing is adapted to once, and stops a run after
    half of it."""
    resume_from: Annotated[str | None, Knob("--resume", ("resume",), "free")] = None
    """Continue a run: its folder or a checkpoint; `auto`: the one in --output-dir, if any; `must`: that one or fail."""
    overwrite: Annotated[bool, Knob(resume="free")] = False
    """Start again in a run folder that is not empty; its checkpoints and metrics are removed."""
    export_backbone: Annotated[Path | None, Knob(resume="free")] = None
    """At the end, write the teacher's backbone for SLT to this file."""
    export_checkpoint: Annotated[bool, Knob(resume="free")] = False
    """At the end, also write the encoder's state dict; the output path says where."""
    output_path: Annotated[Path | None, Knob(resume="free")] = None
    """File for the encoder's state dict; by default <stream>_encoder_state.pt in the run folder."""
    dataset: DatasetSettings = DatasetSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    vit: VitSettings = VitSettings()
    head: HeadSettings = HeadSettings()
    loss: LossSettings = LossSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    checkpointing: CheckpointSettings = CheckpointSettings()
    experiment: ExperimentSettings = ExperimentSettings()

    @field_validator("epochs")
    @classmethod
    def _whole_where_it_is(cls, value: float | Auto) -> float | Auto:
        return value if value == "auto" else whole(value)

    @field_validator("train_dir", "track", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str | Path) else value

    @field_validator("init_from")
    @classmethod
    def _none_is_a_random_start(cls, value: str | None) -> str | None:
        return None if value == "none" else value

    @model_validator(mode="after")
    def _fields_fit_together(self) -> "PretrainSettings":
        if problems := list(cross_field_problems(self)):
            raise PydanticCustomError("cross_field", "settings do not fit together", {"problems": problems})
        return self
