"""Face, two hands and pose, frame by frame, to one sequence for a translation model.

Letters at the end of a tensor's name are its shape: B clips · T frames of a clip · R = B·T rows · F frames looked at ·
D width of a backbone · E width of a projected stream · M width of the sequence · P numbers of a pose.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sltdino.core.settings_schema import printable
from sltdino.errors import SettingsError
from sltdino.models.clip_inputs import Masks, clip_inputs
from sltdino.models.freezing import is_frozen
from sltdino.models.loading import BackboneSpec, load_backbone

PICTURE_STREAMS = ("face", "hand_left", "hand_right")


class TemporalSettings(NamedTuple):
    """The transformer over time; the names and defaults of SLT's `temporal_kwargs`."""

    nhead: int = 8
    nlayers: int = 6
    dim_feedforward: int = 2048
    dropout: float = 0.1


_TEMPORAL = TemporalSettings()


class MultiStreamEncoder(nn.Module):
    """Encode clips of face, hands and pose to a sequence `[B, T, d_model]`.

    Each frame goes through the backbone of its stream and a projection of its own, the streams are concatenated and
    projected to `d_model`, sine-cosine positions are added, and a pre-norm transformer encoder mixes the frames. Left
    and right are told apart by their places in the concatenation, also when they share a backbone.

    A stream that is not there in a frame (a missing hand, an untrusted pose, an argument left out) is a learned token
    instead, so that the other streams of the frame still count. Its pixels, and those of padding, are never looked at.

    A backbone in which nothing is trainable runs without a graph and stays in evaluation mode; call `train()` again
    after freezing or unfreezing one. One that sees no frame of a batch, because a hand is missing in all of it, does
    not run: DistributedDataParallel then needs `find_unused_parameters=True`.

    Args:
        backbones: for any of `face`, `hand_left` and `hand_right`, what `load_backbone` takes: a module or a text as
            `file::backbone.pt`. A module given for several streams is shared: stored once, and run once on the frames
            of all of them; a text given twice is loaded twice. Its width is its `config.embed_dim`, `embed_dim` or
            `num_features`; its `as_backbone()` is used where there is one.
        projector_dim: width E of each projected stream.
        d_model: width M of the sequence; even, and a multiple of the heads.
        pose_dim: numbers of a pose, joints times coordinates; 0 builds no pose stream.
        dropout: after each projection and after the positions.
        temporal: the transformer over time.
        frames_at_once: at most this many frames go through a backbone at a time, and 0 is all of them. A trainable
            backbone then keeps no activations of a chunk and computes it again in the backward pass.

    Raises:
        SettingsError: a stream is unknown, a size does not fit, or a backbone does not say its width.
        SltDinoError: as `load_backbone`.
    """

    def __init__(
        self,
        backbones: Mapping[str, BackboneSpec],
        *,
        projector_dim: int = 256,
        d_model: int = 512,
        pose_dim: int = 39,
        dropout: float = 0.1,
        temporal: TemporalSettings = _TEMPORAL,
        frames_at_once: int = 0,
    ) -> None:
        super().__init__()
        streams = [*(name for name in PICTURE_STREAMS if name in backbones), *(["pose"] if pose_dim else [])]
        _check_streams(backbones, streams)
        layers = {name: count for name, count in temporal._asdict().items() if name != "dropout"}
        _check_counts({"projector_dim": projector_dim, "d_model": d_model, **layers}, least=1)
        _check_counts({"pose_dim": pose_dim, "frames_at_once": frames_at_once}, least=0)
        if d_model % temporal.nhead or d_model % 2:
            raise SettingsError(f"d_model: {d_model} is not even and a multiple of {temporal.nhead} heads")
        self.pose_dim = pose_dim
        self.frames_at_once = frames_at_once
        self.backbones = nn.ModuleDict()
        self.backbone_of: dict[str, str] = {}
        """For each picture stream, the name in `backbones` of the one it uses: that of the first stream with it."""
        self._add_backbones(backbones)
        widths = {stream: backbone_width(self.backbones[name]) for stream, name in self.backbone_of.items()}
        widths |= {"pose": pose_dim} if pose_dim else {}
        self.projectors = nn.ModuleDict({name: _projector(widths[name], projector_dim, dropout) for name in streams})
        self.missing = nn.ParameterDict({name: nn.Parameter(0.02 * torch.randn(projector_dim)) for name in streams})
        self.fusion = nn.Sequential(nn.Linear(len(streams) * projector_dim, d_model), nn.LayerNorm(d_model))
        self.dropout = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(
            d_model, temporal.nhead, temporal.dim_feedforward, temporal.dropout,
            activation="gelu", batch_first=True, norm_first=True,
        )  # fmt: skip
        # nested tensors do not go with norm_first: torch would warn, and not use them
        self.temporal = nn.TransformerEncoder(
            layer, temporal.nlayers, norm=nn.LayerNorm(d_model), enable_nested_tensor=False
        )
        self.train()

    def train(self, mode: bool = True) -> "MultiStreamEncoder":
        """Set the mode of everything that learns; a frozen backbone stays in evaluation."""
        super().train(mode)
        for backbone in self.backbones.values():
            if is_frozen(backbone):
                backbone.eval()
        return self

    def forward(
        self,
        face: Tensor | None = None,
        hand_l: Tensor | None = None,
        hand_r: Tensor | None = None,
        pose: Tensor | None = None,
        pad_mask: Tensor | None = None,
        miss_mask_hl: Tensor | None = None,
        miss_mask_hr: Tensor | None = None,
        pose_conf_mask: Tensor | None = None,
    ) -> Tensor:
        """The sequence `[B, T, M]`; zeros in the padding.

        The arguments are those of SLT's encoder. A stream that is left out is missing in every frame.

        Args:
            face, hand_l, hand_r: `[B, T, 3, H, W]`, normalised as the backbone expects; sizes may differ.
            pose: `[B, T, J, C]` or `[B, T, P]`.
            pad_mask: `[B, T]`, True for the frames of a clip and False for its padding, which comes after them.
            miss_mask_hl, miss_mask_hr: `[B, T]`, True where the hand is missing. This is what SLT's encoder reads; its
                dataset `LsaTMultiStream` writes True where the hand was found, so invert its masks.
            pose_conf_mask: `[B, T]` or `[B, T, J]`, True where the pose or joint is trusted; other joints count as 0.

        Raises:
            SettingsError: a shape does not fit, or the encoder was built without a stream that was given.
        """
        given = {"face": face, "hand_left": hand_l, "hand_right": hand_r, "pose": pose}
        streams = {name: tensor for name, tensor in given.items() if tensor is not None}
        if foreign := [name for name in streams if name not in self.projectors]:
            raise SettingsError(f"{foreign[0]}: the encoder was built for {', '.join(self.projectors)} only")
        masks = Masks(pad_mask, miss_mask_hl, miss_mask_hr, pose_conf_mask)
        valid_BT, values, seen = clip_inputs(streams, masks, pose_dim=self.pose_dim)
        chosen = {name: values[name][seen[name]] for name in streams}  # synchronises with the device
        features = self._features({name: rows for name, rows in chosen.items() if len(rows)})
        fused_RM = self.fusion(self._tokens(features, seen, rows=valid_BT.numel()))
        fused_BTM = fused_RM.view(*valid_BT.shape, -1)
        positions_TM = time_positions(fused_BTM.shape[1], fused_BTM.shape[2], device=fused_BTM.device)
        encoded_BTM = self.temporal(self.dropout(fused_BTM + positions_TM), src_key_padding_mask=~valid_BT)
        return torch.where(valid_BT[..., None], encoded_BTM, 0.0)

    def _add_backbones(self, specs: Mapping[str, BackboneSpec]) -> None:
        final: dict[int, nn.Module] = {}
        loaded = {stream: load_backbone(specs[stream]) for stream in PICTURE_STREAMS if stream in specs}
        for stream, module in loaded.items():
            if id(module) not in final:
                as_backbone = getattr(module, "as_backbone", None)
                final[id(module)] = as_backbone() if callable(as_backbone) else module
            backbone = final[id(module)]
            owner = next((name for name, other in self.backbones.items() if other is backbone), stream)
            self.backbones[owner] = backbone
            self.backbone_of[stream] = owner

    def _features(self, rows: dict[str, Tensor]) -> dict[str, Tensor]:
        """Features `[F, D]` of the frames `[F, 3, H, W]` of each stream; a pose is its own feature."""
        together: dict[tuple[str, torch.Size], list[str]] = {}
        for stream, frames in rows.items():
            if stream != "pose":
                together.setdefault((self.backbone_of[stream], frames.shape[1:]), []).append(stream)
        features = {stream: frames for stream, frames in rows.items() if stream == "pose"}
        for (backbone, _size), streams in together.items():
            joined_FD = self._run_backbone(backbone, torch.cat([rows[stream] for stream in streams]))
            features |= zip(streams, torch.split(joined_FD, [len(rows[stream]) for stream in streams]), strict=True)
        return features

    def _run_backbone(self, name: str, frames: Tensor) -> Tensor:
        backbone = self.backbones[name]
        _check_whole_patches(name, backbone, frames)
        chunks = torch.split(frames, self.frames_at_once or len(frames))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not is_frozen(backbone)):
            recompute = len(chunks) > 1 and torch.is_grad_enabled()
            features = [
                checkpoint(backbone, chunk, use_reentrant=False) if recompute else backbone(chunk) for chunk in chunks
            ]
        for chunk, feature in zip(chunks, features, strict=True):
            expected = (len(chunk), backbone_width(backbone))
            if not isinstance(feature, Tensor) or tuple(feature.shape) != expected:
                got = list(feature.shape) if isinstance(feature, Tensor) else f"a {type(feature).__name__}"
                raise SettingsError(f"{name}: its backbone gave {got} for {list(chunk.shape)}, not {list(expected)}")
        return torch.cat(features)

    def _tokens(self, features: dict[str, Tensor], seen: dict[str, Tensor], *, rows: int) -> Tensor:
        """`[R, streams·E]`: every stream's projection where it is seen, its missing token elsewhere."""
        tokens = []
        for name, projector in self.projectors.items():
            missing_RE = self.missing[name].expand(rows, -1)
            if name in features:
                projected_FE = projector(features[name])
                missing_RE = missing_RE.to(projected_FE.dtype).index_put((seen[name],), projected_FE)
            tokens.append(missing_RE)
        return torch.cat(tokens, dim=1)


def backbone_width(backbone: nn.Module) -> int:
    """The width of its features, as SLT reads it: `config.embed_dim`, `embed_dim` or `num_features`.

    Raises:
        SettingsError: it has none of them.
    """
    config = getattr(backbone, "config", None)
    for owner, name in ((config, "embed_dim"), (backbone, "embed_dim"), (backbone, "num_features")):
        width = getattr(owner, name, None)
        if isinstance(width, int):
            return width
    raise SettingsError(
        f"backbone: a {type(backbone).__name__} does not say how wide its features are; set its embed_dim to that"
    )


def time_positions(num_frames: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """Sine-cosine positions `[T, M]` for any number of frames (Vaswani et al. 2017): sines, then cosines."""
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(0, width, 2, device=device) / width)
    angles = torch.arange(num_frames, device=device)[:, None] * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _check_whole_patches(name: str, backbone: nn.Module, frames: Tensor) -> None:
    patch = getattr(getattr(backbone, "patch_embed", None), "patch_size", 1)
    rows, columns = (patch, patch) if isinstance(patch, int) else patch
    height, width = frames.shape[-2:]
    if height % rows or width % columns:
        raise SettingsError(
            f"{name}: frames of {height} x {width} pixels are not whole patches of {rows} x {columns}; resize them"
        )


def _projector(width: int, projector_dim: int, dropout: float) -> nn.Sequential:
    # the norm comes after the linear layer: before it, it would take a pose's place and size away
    return nn.Sequential(nn.Linear(width, projector_dim), nn.LayerNorm(projector_dim), nn.GELU(), nn.Dropout(dropout))


def _check_streams(backbones: Mapping[str, BackboneSpec], streams: list[str]) -> None:
    if unknown := [name for name in backbones if name not in PICTURE_STREAMS]:
        raise SettingsError(f"backbones: {printable(str(unknown[0]))!r} is not one of {', '.join(PICTURE_STREAMS)}")
    if not streams:
        raise SettingsError("MultiStreamEncoder: has no stream; give a backbone or a pose_dim")


def _check_counts(counts: Mapping[str, int], *, least: int) -> None:
    for name, count in counts.items():
        if count < least:
            raise SettingsError(f"{name}: must be at least {least} (got {count})")
