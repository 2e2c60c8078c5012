"""Named bundles of defaults: by what the crops show, and by what a run is for."""

from typing import Any

STARTER = "starter"
"""What `--init-from` calls the weights that come with the package."""

STREAMS: dict[str, dict[str, Any]] = {
    "hands": {"stream": "hand", "augmentation": {"hflip_prob": 0.0}},
    "face": {"stream": "face", "augmentation": {"hflip_prob": 0.25, "hue": 0.05}},
}
"""Defaults of `pretrain hands` and `pretrain face`, where they differ from the settings' own."""

_PAPERS: dict[str, dict[str, Any]] = {
    "augmentation": {
        "image_size": 224, "num_global_crops": 2, "num_local_crops": 8,
        "brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "color_jitter_prob": 0.8, "grayscale_prob": 0.2,
        "solarize_prob": "dino", "rotation": 0.0, "light": 0.0,
    },
    "vit": {
        "backbone": "vit-small", "patch_size": 16, "drop_path": 0.1, "drop_path_uniform": False,
        "weight_init": "trunc_normal", "positions": "random",
    },
    "head": {"hidden_dim": 2048, "bottleneck_dim": 256, "batch_norm": False, "patch_out_dim": "shared"},
    "loss": {
        "student_temp": 0.1, "standardize_teacher": False, "teacher_temp_start": 0.04, "teacher_temp": 0.07,
        "center_momentum": 0.9, "use_sinkhorn": False, "sinkhorn_iters": 3, "koleo_weight": 0.0,
        "patch_loss_weight": 1.0, "patch_mask_prob": 0.5, "patch_mask_ratio": 0.3,
    },
    "optimizer": {
        "min_learning_rate": 1e-6, "weight_decay": 0.04, "weight_decay_final": 0.4, "decay_embeddings": True,
        "teacher_momentum_base": 0.996, "teacher_momentum_final": 1.0, "clip_grad_norm": 3.0,
        "freeze_backbone_epochs": 0.0, "layer_decay": 1.0, "patch_embed_lr_scale": 1.0,
    },
}  # fmt: skip
"""What the papers' recipes have in common, down to what is a default today.

Left to `auto` are what follows the batch and the length of the run (see `auto_papers`), the local crops' 3/7 of the
image size (96 px in patches of 16, 98 in patches of 14), and the LayerNorm epsilon, SLT's or that of the weights.
Left to the stream are mirroring and hue: no recipe may make a left hand a right one.
"""


def _paper(algorithm: str, **sections: dict[str, Any]) -> dict[str, Any]:
    """A paper's recipe: what it changes in `_PAPERS`."""
    merged = {name: values | sections.get(name, {}) for name, values in _PAPERS.items()}
    return {"algorithm": algorithm, "epochs": 100, **merged}


_DINOV2_LOSS = {"use_sinkhorn": True, "koleo_weight": 0.1, "koleo_epsilon": 1e-4, "patch_mask_block": 4}

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    # 170 images/s on two cores, where ViT-S/16 at 224 px makes one
    "laptop": {
        "epochs": 100,
        "init_from": STARTER,
        "augmentation": {"image_size": 64},
        "vit": {"patch_size": 16, "embed_dim": 192, "depth": 4, "num_heads": 6},
    },
    # Caron et al. 2021, ViT-S/16
    "dino": _paper(
        "dino",
        augmentation={"global_crop_scale": (0.4, 1.0), "local_crop_scale": (0.05, 0.4)},
        head={"out_dim": 65_536},
    ),
    # Zhou et al. 2022, ViT-S/16; a mask ratio of 0 or U(0.1, 0.5), as likely, is half of the crops at 0.3 ± 0.2
    "ibot": _paper(
        "ibot",
        augmentation={"global_crop_scale": (0.25, 1.0), "local_crop_scale": (0.05, 0.25), "num_local_crops": 10},
        head={"out_dim": 8192},
        loss={"patch_mask_block": 16},
    ),
    # Oquab et al. 2023, ViT-S/14
    "dinov2": _paper(
        "dinov2",
        augmentation={"global_crop_scale": (0.32, 1.0), "local_crop_scale": (0.05, 0.32)},
        vit={"patch_size": 14, "layer_scale": 1e-5, "drop_path": 0.3, "drop_path_uniform": True},
        head={"out_dim": 65_536, "patch_out_dim": 65_536},
        loss=_DINOV2_LOSS,
        optimizer={"teacher_momentum_base": 0.992, "layer_decay": 0.9, "patch_embed_lr_scale": 0.2},
    ),
    # ACL Findings 2025, from DINOv2's ViT-S/14 with registers; the number of prototypes is DINOv2's
    "signmusketeers": _paper(
        "dinov2",
        augmentation={"global_crop_scale": (0.5, 1.0), "local_crop_scale": (0.25, 0.5)},
        vit={"patch_size": 14, "registers": 4, "layer_scale": 1e-5, "drop_path": 0.4, "drop_path_uniform": True},
        head={"out_dim": 65_536, "patch_out_dim": 65_536},
        loss=_DINOV2_LOSS,
        optimizer={
            "weight_decay_final": 0.2,
            "teacher_momentum_base": 0.994,
            "layer_decay": 0.9,
            "patch_embed_lr_scale": 0.2,
        },
    ),
}
"""Defaults of `--preset NAME`; they win over the stream's, and files and flags win over them."""
