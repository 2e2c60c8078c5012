"""Knobs of the network: backbone and heads."""

from typing import Annotated, Literal

from pydantic import Field

from sltdino.core.settings_base import Auto, Count, Knob, Positive, Probability, Section


class VitSettings(Section):
    """The backbone."""

    title = "Backbone"
    flag_prefix = "vit-"
    resume = "identity"

    backbone: Annotated[Literal["vit-tiny", "vit-small", "vit-base"] | Auto, Knob("--backbone")] = "auto"
    """Named size: width, depth and heads are 192, 12, 3 · 384, 12, 6 · 768, 12, 12. Explicit --vit-* flags win. auto:
    here and below, as the weights of --init-from, else vit-small."""
    patch_size: Annotated[Positive | Auto, Knob("--patch-size")] = "auto"
    """Side of a patch, in pixels; auto: 16."""
    embed_dim: Positive | Auto = "auto"
    """Width; auto: of the named size."""
    depth: Positive | Auto = "auto"
    """Number of blocks; auto: of the named size."""
    num_heads: Positive | Auto = "auto"
    """Attention heads; auto: one per 64 channels."""
    mlp_ratio: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Hidden width of a block's MLP, as a multiple of the width; auto: 4."""
    registers: Count | Auto = "auto"
    """Register tokens (Darcet et al. 2024); cannot be exported to SLT; auto: 0."""
    layer_scale: Annotated[float, Field(ge=0)] | Auto = "auto"
    """Initial LayerScale of each branch; 0 builds none; auto: 0."""
    drop_path: Annotated[Probability, Knob(resume="trajectory")] = 0.0
    """Stochastic depth of the last block; it grows linearly from 0 with depth."""
    drop_path_uniform: Annotated[bool, Knob(resume="trajectory")] = False
    """The same stochastic depth in every block, as in DINOv2."""
    layer_norm_eps: Annotated[float, Field(gt=0)] | Auto = "auto"
    """Epsilon of every LayerNorm; auto: 1e-5, which is what SLT computes with."""
    weight_init: Literal["layout", "xavier", "trunc_normal"] | Auto = "auto"
    """How the network starts: layout, where the CLS token sees from the first step what is where in the picture;
    Xavier uniform matrices, as MAE and JAX's ViT; or DINO's normal of std 0.02; auto: layout under 20,000 images, or
    xavier with LayerScale or random positions; else, and with --init-from, trunc_normal."""
    positions: Literal["sincos", "random"] = "sincos"
    """How the learned position embedding starts: 2-D sine-cosine, or normal noise of std 0.02; layout has its own."""


class HeadSettings(Section):
    """The prototype heads."""

    title = "Heads"
    flag_prefix = "head-"
    resume = "identity"

    out_dim: Annotated[Annotated[int, Field(ge=2)] | Auto, Knob("--out-dim")] = "auto"
    """Prototypes; auto: by the number of images, 1024 under 20,000 and more beyond."""
    hidden_dim: Positive | Auto = "auto"
    """Hidden width of the head; auto: 2048, less for a narrow backbone."""
    bottleneck_dim: Positive = 256
    """Width of the normalised layer before the prototypes."""
    batch_norm: bool = True
    """Batch norm after each hidden layer: the way out of the uniform fixed point for small data."""
    patch_out_dim: Annotated[Annotated[int, Field(ge=2)] | Literal["shared"], Knob("--patch-out-dim")] = "shared"
    """Prototypes of a separate patch head; shared: patches use the head of the CLS token."""
