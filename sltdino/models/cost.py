"""What a training step costs by its arithmetic: operations, and the memory that the backward pass keeps."""

from typing import NamedTuple

from sltdino.core.settings import AugmentationSettings
from sltdino.core.settings_base import known
from sltdino.core.settings_network import HeadSettings, VitSettings


class Shape(NamedTuple):
    """The sizes a step's cost follows from."""

    width: int
    depth: int
    mlp: int
    """Hidden width of a block's MLP."""
    patch_pixels: int
    """Numbers in a patch: 3·P²."""
    patch_size: int
    extra_tokens: int
    """CLS and registers."""
    scales: int
    """LayerScales in a block."""
    head_hidden: int
    head_layers: int
    """Numbers kept for each hidden one of the head: 3 with batch norm, else 2."""
    bottleneck: int
    prototypes: int
    patch_prototypes: int
    global_size: int
    local_size: int
    num_global: int
    num_local: int

    def patches(self, size: int) -> int:
        """Of a crop of `size` pixels a side."""
        return (size // self.patch_size) ** 2


def step_shape(vit: VitSettings, head: HeadSettings, crops: AugmentationSettings) -> Shape:
    """The sizes of a run whose settings are settled."""
    width = known(vit.embed_dim)
    return Shape(
        width=width,
        depth=known(vit.depth),
        mlp=int(width * known(vit.mlp_ratio)),
        patch_pixels=3 * known(vit.patch_size) ** 2,
        patch_size=known(vit.patch_size),
        extra_tokens=1 + known(vit.registers),
        scales=2 if known(vit.layer_scale) else 0,
        head_hidden=known(head.hidden_dim),
        head_layers=3 if head.batch_norm else 2,
        bottleneck=head.bottleneck_dim,
        prototypes=known(head.out_dim),
        patch_prototypes=known(head.out_dim) if head.patch_out_dim == "shared" else head.patch_out_dim,
        global_size=crops.image_size,
        local_size=known(crops.local_crop_size),
        num_global=crops.num_global_crops,
        num_local=known(crops.num_local_crops),
    )


def step_flops(shape: Shape, *, masked_share: float) -> float:
    """Floating-point operations of one step per image: 2 for each multiply-add of a matrix product, attention included.

    A token costs 2·(4D² + 2D·hidden) in a block and 4·L·D for its attention over L tokens. The backward pass costs
    twice the forward one, but once for the patch embedding, whose input needs no gradient. The student sees every crop,
    forward and backward; the teacher the global ones, forward.

    Args:
        masked_share: of the patches of the global crops, the share that goes through the head.
    """
    masked = masked_share * shape.patches(shape.global_size)
    heads = _head_flops(shape, shape.prototypes) + masked * _head_flops(shape, shape.patch_prototypes)
    blocks, embedding = forward_flops(shape, shape.global_size), _embedding_flops(shape, shape.global_size)
    teacher = blocks + heads
    student = 3 * (blocks + heads) - embedding
    local_blocks, local_embedding = forward_flops(shape, shape.local_size), _embedding_flops(shape, shape.local_size)
    local = 3 * (local_blocks + _head_flops(shape, shape.prototypes)) - local_embedding
    return shape.num_global * (teacher + student) + shape.num_local * local


def forward_flops(shape: Shape, size: int) -> float:
    """Operations of the backbone on one image of `size` pixels a side, forward only."""
    tokens, width = shape.patches(size) + shape.extra_tokens, shape.width
    a_token = 2 * (4 * width**2 + 2 * width * shape.mlp) + 4 * tokens * width
    return shape.depth * tokens * a_token + _embedding_flops(shape, size)


def _embedding_flops(shape: Shape, size: int) -> float:
    return 2 * shape.patches(size) * shape.patch_pixels * shape.width


def _head_flops(shape: Shape, prototypes: int) -> float:
    """Of one row."""
    hidden, bottleneck = shape.head_hidden, shape.bottleneck
    return 2 * (shape.width * hidden + hidden * hidden + hidden * bottleneck + bottleneck * prototypes)


def kept_bytes(shape: Shape, *, masked_share: float, half: bool = False) -> float:
    """Bytes per image that the forward passes of a step leave for its backward pass, nearly.

    In a block, of a token: the inputs of both norms and their outputs (4 D), q, k, v and the attended values (4 D), and
    the MLP's hidden layer before and after its activation (2 hidden); with LayerScale its two inputs. In the heads, of
    a row: the hidden layers, and the scores three times (cosines, logits, logits by temperature). Of the teacher: the
    scores and the targets, and the targets' sums over crops.

    Args:
        half: what matrix products read and write is bfloat16.
    """
    small, full = (2, 4) if half else (4, 4)
    a_token = (
        shape.depth * ((2 * full + 6 * small + shape.scales * small) * shape.width + 2 * small * shape.mlp)
        + full * shape.width
    )
    a_crop = {
        size: (shape.patches(size) + shape.extra_tokens) * a_token + shape.patches(size) * shape.patch_pixels * small
        for size in (shape.global_size, shape.local_size)
    }
    hidden = 2 * shape.head_layers * small * shape.head_hidden + 2 * full * shape.bottleneck + full * shape.width
    num_crops, masked = shape.num_global + shape.num_local, masked_share * shape.patches(shape.global_size)
    cls = num_crops * (hidden + 3 * full * shape.prototypes) + (3 * shape.num_global + 1) * full * shape.prototypes
    patch = shape.num_global * masked * (hidden + 5 * full * shape.patch_prototypes)
    return shape.num_global * a_crop[shape.global_size] + shape.num_local * a_crop[shape.local_size] + cls + patch


def passing_bytes(shape: Shape, *, masked_share: float) -> float:
    """Bytes per image that come and go while the kept ones are all there: the gradients where the backward pass starts.

    The larger of those of the scores (twice) and those of the last block's hidden layer and residual stream.
    """
    masked = masked_share * shape.patches(shape.global_size)
    scores = (
        shape.num_global + shape.num_local
    ) * shape.prototypes + shape.num_global * masked * shape.patch_prototypes
    tokens = shape.num_global * (shape.patches(shape.global_size) + shape.extra_tokens)
    return 4 * max(2 * scores, tokens * (2 * shape.mlp + 3 * shape.width))


def forward_bytes(shape: Shape, size: int) -> float:
    """Bytes per image of the backbone's largest moment without gradients: a block's residual stream and hidden layers.

    The image itself is counted too.
    """
    tokens = shape.patches(size) + shape.extra_tokens
    return 4 * (3 * size**2 + tokens * (3 * shape.width + max(2 * shape.mlp, 5 * shape.width)))
