"""Named bundles of defaults: by what the crops show, and by what a run is for."""

from typing import Any

STREAMS: dict[str, dict[str, Any]] = {
    "hands": {"stream": "hand", "augmentation": {"hflip_prob": 0.0}},
    "face": {"stream": "face", "augmentation": {"hflip_prob": 0.25, "hue": 0.05}},
}
"""Defaults of `pretrain hands` and `pretrain face`, where they differ from the settings' own."""

PRESETS: dict[str, dict[str, Any]] = {
    "none": {},
    # 100 images/s on two cores, where ViT-S/16 at 224 px makes one; 50 epochs of 1,200 crops are ten minutes
    "laptop": {
        "epochs": 50,
        "augmentation": {"image_size": 64},
        "vit": {"patch_size": 8, "embed_dim": 128, "depth": 4},
    },
}
"""Defaults of `--preset NAME`; they win over the stream's, and files and flags win over them."""
