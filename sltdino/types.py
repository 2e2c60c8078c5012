"""What flows through a training step.

Letters at the end of a tensor's name are its shape, here and in `models` and `objectives`:
B images · C crops (global first) · G global crops of the batch (2B, crop-major) · N patches · M masked patches of the
batch · D width · K prototypes · S student crops · T teacher crops · H heads · L tokens (CLS, registers, patches).
"""

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """Crop-major stacks: the first global crop of every image, then the second of every image, and so on."""

    global_crops: Tensor
    """`[2B, 3, S, S]`, normalised float32."""
    local_crops: Tensor
    """`[C_local * B, 3, s, s]`; no rows when there are no local crops."""
    masks_GN: Tensor
    """True where the student sees the mask token instead of the patch."""


class Outputs(NamedTuple):
    """What a network says about a batch."""

    cls_CBD: Tensor
    """Features the backbone hands to the head, before the head; the global crops first."""
    cls_logits_CBK: Tensor
    patch_logits_MK: Tensor
    """One row per masked patch; no rows when nothing is masked."""
    masks_GN: Tensor
    """Which patches those rows are, in row-major order."""
