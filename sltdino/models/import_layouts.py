"""How public vision transformers name their weights, one row each, and the way from there to our names.

Sources: the state dicts of facebookresearch/dino, bytedance/ibot, facebookresearch/dinov2, timm's VisionTransformer,
transformers' ViT, Dinov2 and Dinov2WithRegisters, torchvision's VisionTransformer, and SLT's loader.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from sltdino.models.normalisation import IMAGENET_MEAN, IMAGENET_STD, Triple

Weights = dict[str, Tensor]

IMAGENET: tuple[Triple, Triple] = (IMAGENET_MEAN, IMAGENET_STD)
HALF: tuple[Triple, Triple] = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

_HUGGING_FACE = (
    (r"^embeddings\.cls_token$", "cls_token"),
    (r"^embeddings\.mask_token$", "mask_token"),
    (r"^embeddings\.register_tokens$", "reg_token"),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(encoder\.layer|layers)\.(\d+)\.", r"blocks.\2."),
    # as files have them, and as transformers 5 has them in memory
    (r"\.attention\.(attention\.([qkv])(uery|ey|alue)|([qkv])_proj)\.", r".attn.\2\4."),
    (r"\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"(blocks\.\d+)\.output\.dense\.", r"\1.mlp.fc2."),
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.layer_scale([12])\.lambda1$", r".ls\1.gamma"),
    (r"^layernorm\.", "norm."),
)
_DINOV2 = (
    (r"^register_tokens$", "reg_token"),
    (r"^blocks\.\d+\.(\d+)\.", r"blocks.\1."),  # chunks of blocks, as training under FSDP saves them
)
_SLT = (
    (r"\.attn\.in_proj_", ".attn.qkv."),
    (r"\.attn\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.0\.", ".mlp.fc1."),
    (r"\.mlp\.3\.", ".mlp.fc2."),
)

_TORCHVISION = (
    (r"^class_token$", "cls_token"),
    (r"^conv_proj\.", "patch_embed.proj."),
    (r"^encoder\.pos_embedding$", "pos_embed"),
    (r"^encoder\.ln\.", "norm."),
    (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
    (r"\.ln_([12])\.", r".norm\1."),
    (r"\.self_attention\.in_proj_", ".attn.qkv."),
    (r"\.self_attention\.out_proj\.", ".attn.proj."),
    (r"\.mlp\.(?:0|linear_1)\.", ".mlp.fc1."),
    (r"\.mlp\.(?:3|linear_2)\.", ".mlp.fc2."),
)


class Layout(NamedTuple):
    """A row of the table."""

    name: str
    recognise: Callable[[Mapping[str, object]], bool]
    """Whether names, of a backbone alone, are of this layout; the first row that says so counts."""
    renames: tuple[tuple[str, str], ...]
    """Regular expressions and replacements, applied in order."""
    layer_norm_eps: float
    normalisation: tuple[Triple, Triple]
    """Mean and std that its public weights were trained with, unless their files say otherwise."""
    remark: str = ""
    """What a user must know about every file of it."""
    assumes: str = ""
    """What is to be said where a file does not say its normalisation, and the one above is not all of theirs."""


_OFFSET = (
    "positions: at other sizes than the stored one DINOv2 resamples its grid with an offset of 0.1 patches, or "
    "antialiased where there are registers; here it is plain bicubic, so features differ a little"
)
_HF_VIT = (
    "normalisation: 0.5 and 0.5, as of google/vit-*, because no preprocessor_config.json says otherwise; "
    "facebook/dino-* expect ImageNet's: set the mean and std if yours do"
)
_TIMM = (
    "normalisation: 0.5 and 0.5, as of timm's own vit_* classifiers, because no config.json says otherwise; "
    "deit_* expect ImageNet's: set the mean and std if yours do"
)

OUR_NAMES = Layout(
    "sltdino",
    lambda keys: "mask_token" in keys and ("reg_token" in keys or "blocks.0.ls1.gamma" not in _unchunked(keys)),
    (), 1e-5, IMAGENET,
)  # fmt: skip
"""The names of `models/vit.py`; with LayerScale and without registers they are DINOv2's too."""

TORCHVISION = Layout(
    "torchvision", lambda keys: "encoder.layers.encoder_layer_0.ln_1.weight" in keys, _TORCHVISION, 1e-6, IMAGENET
)

LAYOUTS = (
    Layout("hf-dinov2-registers", lambda keys: "embeddings.register_tokens" in keys, _HUGGING_FACE, 1e-6, IMAGENET),
    Layout("hf-dinov2", lambda keys: "encoder.layer.0.layer_scale1.lambda1" in keys, _HUGGING_FACE, 1e-6, IMAGENET),
    Layout("hf-vit", lambda keys: "embeddings.cls_token" in keys, _HUGGING_FACE, 1e-12, HALF, assumes=_HF_VIT),
    Layout("slt", lambda keys: "blocks.0.attn.in_proj_weight" in keys, _SLT, 1e-5, IMAGENET),
    Layout("dinov2-registers", lambda keys: "register_tokens" in keys, _DINOV2, 1e-6, IMAGENET, _OFFSET),
    OUR_NAMES,
    Layout("dinov2", lambda keys: "blocks.0.ls1.gamma" in _unchunked(keys) and "mask_token" in keys, _DINOV2, 1e-6,
           IMAGENET, _OFFSET),
    Layout("ibot", lambda keys: "masked_embed" in keys, ((r"^masked_embed$", "mask_token"),), 1e-6, IMAGENET),
    Layout("timm-classifier", lambda keys: "head.weight" in keys, (), 1e-6, HALF, assumes=_TIMM),
    Layout("timm", lambda keys: "reg_token" in keys or "blocks.0.ls1.gamma" in keys, (), 1e-6, IMAGENET),
    Layout("dino", lambda keys: "blocks.0.attn.qkv.weight" in keys, (), 1e-6, IMAGENET),
    TORCHVISION,
)  # fmt: skip

LEFT_OUT = (
    (r"^(head|fc|classifier|linear_head|head_dist|heads\.\w+)\.(weight|bias)$", "a classifier"),
    (r"^pooler\.", "a pooler"),
    (r"^(pre_logits|attn_pool)\.", "a pooling layer"),
    (r"^decoder\.", "a decoder"),
)
"""What stands beside a backbone and is of no use to one."""

REFUSED = (
    (r"\.mlp\.(w12|weights_in)\.", "a SwiGLU MLP, as in DINOv2's giant, which our blocks do not compute"),
    (
        r"^fc_norm\.",
        "a norm behind average pooling (fc_norm) in place of one over all tokens; take a class-token model",
    ),
    (r"^norm_pre\.", "a norm before the blocks, as in CLIP, which our network does not compute"),
    (r"\.attn\.(q_norm|k_norm)\.", "normalised queries and keys, which our blocks do not compute"),
    (r"^dist_token$", "a distillation token, which our network does not have"),
    (r"\.attn\.(relative_position|rel_pos|q_bias)", "BEiT's attention, which our blocks do not compute"),
    (r"^(embeddings\.)?rope", "rotary positions, as in DINOv3, which our network does not compute"),
)
"""What makes it another network than ours, however many names agree."""


def recognise(weights: Mapping[str, object]) -> Layout | None:
    """The first row that knows these names; None when none does."""
    return next((layout for layout in LAYOUTS if layout.recognise(weights)), None)


def to_our_names(weights: Weights, layout: Layout, notes: list[str]) -> Weights:
    """Weights under our names: renamed, separate queries, keys and values joined, tokens in our shapes.

    Raises:
        ValueError: two of them have one name with us.
    """
    renamed: Weights = {}
    for key, value in weights.items():
        name = key
        for pattern, replacement in layout.renames:
            name = re.sub(pattern, replacement, name)
        if name in renamed:
            raise ValueError(f"{key} and another of its names both mean {name}")
        renamed[name] = value
    _join_queries_keys_values(renamed)
    _shape_tokens(renamed, notes)
    return renamed


def _join_queries_keys_values(weights: Weights) -> None:
    """`attn.{q,k,v}` into `attn.qkv`, in place, where all three are there."""
    for query in [key for key in weights if ".attn.q." in key]:
        parts = [query.replace(".attn.q.", f".attn.{part}.") for part in ("q", "k", "v")]
        if all(part in weights for part in parts):
            joined = torch.cat([weights.pop(part) for part in parts])
            weights[query.replace(".attn.q.", ".attn.qkv.")] = joined


def _shape_tokens(weights: Weights, notes: list[str]) -> None:
    """Bring mask token and positions to `[1, D]` and `[1, 1 + N, D]`, in place, wherever that is the same network."""
    mask, positions, registers = (weights.get(key) for key in ("mask_token", "pos_embed", "reg_token"))
    if mask is not None and mask.dim() == 3 and len(mask) == mask.shape[1] == 1:
        weights["mask_token"] = mask[0]
    if positions is None or positions.dim() != 3:
        return
    count = registers.shape[1] if registers is not None and registers.dim() == 3 else 0
    if _is_square(positions.shape[1] - 1):
        return
    if _is_square(positions.shape[1]):
        # timm's no_embed_class: the class token stands without a position
        weights["pos_embed"] = torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)
        notes.append("positions: none for the class token in the file, so it starts with zero")
    elif registers is not None and _is_square(positions.shape[1] - 1 - count):
        weights["reg_token"] = registers + positions[:, 1 : 1 + count]
        weights["pos_embed"] = torch.cat([positions[:, :1], positions[:, 1 + count :]], dim=1)
        notes.append("registers: their positions were added to them, which is the same network")


def _is_square(number: int) -> bool:
    return number > 0 and round(number**0.5) ** 2 == number


def _unchunked(keys: Mapping[str, object]) -> set[str]:
    """Names without the chunk number that training under FSDP puts before a block's."""
    return {re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", key) for key in keys}
