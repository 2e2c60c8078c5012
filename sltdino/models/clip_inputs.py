"""What `MultiStreamEncoder` is fed: shapes checked, and one row per frame with a mask of those to look at."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from sltdino.errors import SettingsError


class Masks(NamedTuple):
    """SLT's masks of a batch of clips, by SLT's names, each as it was given, or None."""

    pad_mask: Tensor | None
    """True where a clip has a frame, False in its padding."""
    miss_mask_hl: Tensor | None
    miss_mask_hr: Tensor | None
    """True where the hand was not found."""
    pose_conf_mask: Tensor | None
    """True where the pose, or that joint of it, is trusted."""


_MASK_OF = {"hand_left": "miss_mask_hl", "hand_right": "miss_mask_hr", "pose": "pose_conf_mask"}


class ClipInputs(NamedTuple):
    """A batch of clips, frame by frame in the order of the clips (R = B·T rows)."""

    valid_BT: Tensor
    """False in the padding."""
    values: dict[str, Tensor]
    """Frames `[R, 3, H, W]` of each picture stream that was given, and poses `[R, P]`."""
    seen: dict[str, Tensor]
    """`[R]`: which rows of a stream show something; the others are padding or a missing hand or pose."""


def clip_inputs(streams: dict[str, Tensor], masks: Masks, *, pose_dim: int) -> ClipInputs:
    """Check a batch and settle what is seen of it.

    Args:
        streams: `[B, T, 3, H, W]` for pictures, `[B, T, J, C]` or `[B, T, P]` for the pose.
        pose_dim: J·C or P.

    Raises:
        SettingsError: a shape does not fit, nothing was given, or a clip has no frame at all.
    """
    batch, time = _clip_shape(streams)
    for stream, name in _MASK_OF.items():
        if stream not in streams and getattr(masks, name) is not None:
            raise SettingsError(f"{name}: was given without its stream {stream}")
    valid_BT = _mask(masks.pad_mask, "pad_mask", (batch, time), like=next(iter(streams.values())), default=True)
    if not bool(valid_BT.any(dim=1).all()):
        empty = int((~valid_BT.any(dim=1)).nonzero()[0])
        raise SettingsError(f"pad_mask: clip {empty} of the batch has no frame at all; leave it out")
    values, seen = {}, {}
    for name, tensor in streams.items():
        if name == "pose":
            values[name], there_BT = _pose(tensor, masks.pose_conf_mask, pose_dim)
        else:
            values[name] = tensor.flatten(0, 1)
            mask = _MASK_OF.get(name, "")
            there_BT = ~_mask(getattr(masks, mask, None), mask, (batch, time), like=tensor, default=False)
        seen[name] = (valid_BT & there_BT).flatten()
    return ClipInputs(valid_BT, values, seen)


def _clip_shape(streams: dict[str, Tensor]) -> tuple[int, int]:
    if not streams:
        raise SettingsError(
            "MultiStreamEncoder: no stream was given; pass one of face, hand_l, hand_r and pose, or more"
        )
    for name, tensor in streams.items():
        if name != "pose" and (tensor.dim() != 5 or tensor.shape[2] != 3):
            raise SettingsError(f"{name}: {_shape(tensor)} is not [batch, time, 3, height, width]")
        if name == "pose" and tensor.dim() not in (3, 4):
            raise SettingsError(f"pose: {_shape(tensor)} is not [batch, time, joints, coordinates] or [batch, time, P]")
    shapes = {name: (tensor.shape[0], tensor.shape[1]) for name, tensor in streams.items()}
    if len(set(shapes.values())) > 1:
        listed = ", ".join(f"{name} {batch} x {time}" for name, (batch, time) in shapes.items())
        raise SettingsError(f"MultiStreamEncoder: the streams differ in clips x frames: {listed}")
    return next(iter(shapes.values()))


def _pose(pose: Tensor, confidence: Tensor | None, pose_dim: int) -> tuple[Tensor, Tensor]:
    """Rows `[R, P]` with zeros for the joints that are not trusted, and `[B, T]`: where any joint is."""
    flat_BTP = pose.flatten(2)
    batch, time, width = flat_BTP.shape
    if width != pose_dim:
        raise SettingsError(f"pose: {_shape(pose)} has {width} numbers a frame, not the {pose_dim} of pose_dim")
    if confidence is None or confidence.dim() != 3:
        there_BT = _mask(confidence, "pose_conf_mask", (batch, time), like=pose, default=True)
        return flat_BTP.flatten(0, 1), there_BT
    joints = pose.shape[2] if pose.dim() == 4 else confidence.shape[2]
    if joints == 0 or width % joints:
        raise SettingsError(f"pose_conf_mask: {joints} joints do not divide a pose of {width} numbers")
    trusted_BTJ = _mask(confidence, "pose_conf_mask", (batch, time, joints), like=pose, default=True)
    joints_BTJC = flat_BTP.reshape(batch, time, joints, -1).masked_fill(~trusted_BTJ[..., None], 0.0)
    return joints_BTJC.flatten(2).flatten(0, 1), trusted_BTJ.any(dim=2)


def _mask(mask: Tensor | None, name: str, shape: tuple[int, ...], *, like: Tensor, default: bool) -> Tensor:
    if mask is None:
        return torch.full(shape, default, dtype=torch.bool, device=like.device)
    if tuple(mask.shape) != shape:
        raise SettingsError(f"{name}: {_shape(mask)} is not {_shape(shape)}")
    return mask.to(device=like.device, dtype=torch.bool)


def _shape(of: Tensor | Iterable[int]) -> str:
    return str(list(of.shape if isinstance(of, Tensor) else of))
