"""The encoder of face, hands and pose: masks, sharing, freezing, and what it must and must not depend on."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sltdino.core.settings_network import VitSettings
from sltdino.errors import SettingsError
from sltdino.models import MultiStreamEncoder, TemporalSettings
from sltdino.models.multistream import time_positions
from sltdino.models.vit import VisionTransformer

TINY = VitSettings(
    patch_size=8, embed_dim=16, depth=2, num_heads=2, mlp_ratio=4.0, registers=0, layer_scale=0.0, layer_norm_eps=1e-5
)
SMALL = {"projector_dim": 8, "d_model": 16, "pose_dim": 6, "temporal": TemporalSettings(2, 2, 32, 0.0), "dropout": 0.0}
B, T = 2, 5


def backbone(seed: int = 0) -> VisionTransformer:
    torch.manual_seed(seed)
    return VisionTransformer(TINY, image_size=16)


def shared_hands() -> dict[str, nn.Module]:
    hands = backbone(1)
    return {"face": backbone(), "hand_left": hands, "hand_right": hands}


def encoder(backbones: dict[str, Any] | None = None, **changes: Any) -> MultiStreamEncoder:
    backbones = shared_hands() if backbones is None else backbones
    torch.manual_seed(2)
    return MultiStreamEncoder(backbones, **{**SMALL, **changes}).eval()


def clip(batch: int = B, time: int = T, *, size: int = 16, seed: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    frames = {name: torch.randn(batch, time, 3, size, size) for name in ("face", "hand_l", "hand_r")}
    return {**frames, "pose": torch.randn(batch, time, 6)}


def mask(*rows: str) -> Tensor:
    """`mask("110", "111")`: a row of ones and zeros for each clip."""
    return torch.tensor([[character == "1" for character in row] for row in rows])


class Counting(nn.Module):
    """Mean and spread of the pixels as two features, and a record of the batches it was given."""

    embed_dim = 2

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))
        self.batches: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        pixels = images.flatten(1)
        return torch.stack([pixels.mean(1), pixels.std(1)], dim=1) * self.scale


# What goes in and what comes out


def test_a_batch_of_clips_becomes_a_sequence_of_the_models_width() -> None:
    assert encoder()(**clip()).shape == (B, T, 16)


def test_the_arguments_have_slts_names_and_places() -> None:
    given, model = clip(), encoder()
    masks = {
        "pad_mask": mask("11111", "11100"), "miss_mask_hl": mask("00100", "00000"),
        "miss_mask_hr": mask("00000", "10000"), "pose_conf_mask": mask("11011", "11111"),
    }  # fmt: skip
    assert torch.equal(model(**given, **masks), model(*given.values(), *masks.values()))


def test_the_output_is_that_of_the_parts_put_together_by_hand() -> None:
    """Loops over clips and frames, and torch's layers one by one, against the encoder's batches."""
    model, given = encoder(), clip()
    names = {"face": "face", "hand_left": "hand_l", "hand_right": "hand_r", "pose": "pose"}
    frames = torch.zeros(B, T, 16)
    for b in range(B):
        for t in range(T):
            parts = []
            for stream, argument in names.items():
                x = given[argument][b, t]
                if stream != "pose":
                    x = model.backbones[model.backbone_of[stream]](x[None])[0]
                parts.append(model.projectors[stream](x[None])[0])
            position = torch.tensor(
                [math.sin(t / 10_000 ** (2 * i / 16)) for i in range(8)]
                + [math.cos(t / 10_000 ** (2 * i / 16)) for i in range(8)]
            )
            frames[b, t] = model.fusion(torch.cat(parts)[None])[0] + position
    for layer in model.temporal.layers:
        y = layer.norm1(frames)
        frames = frames + layer.self_attn(y, y, y)[0]
        frames = frames + layer.linear2(nn.functional.gelu(layer.linear1(layer.norm2(frames))))
    expected = model.temporal.norm(frames)
    with torch.no_grad():
        torch.testing.assert_close(model(**given), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(B, T, 2, 3), (B, T, 6)])
def test_a_pose_comes_by_joints_or_flat(shape: tuple[int, ...]) -> None:
    model, given = encoder(), clip()
    assert torch.equal(model(**{**given, "pose": given["pose"].view(shape)}), model(**given))


def test_face_and_hands_may_differ_in_size() -> None:
    model, given = encoder(), clip()
    given["hand_l"] = torch.randn(B, T, 3, 24, 24)
    assert model(**given).shape == (B, T, 16)


def test_frames_of_any_number_have_positions() -> None:
    assert encoder({}, pose_dim=6)(pose=torch.randn(1, 700, 6)).shape == (1, 700, 16)
    assert torch.equal(time_positions(700, 16)[:5], time_positions(5, 16))


# What it depends on


def test_padding_does_not_change_the_valid_outputs() -> None:
    model, given = encoder(), clip(1, 4)
    padded = {name: torch.cat([x, torch.full_like(x[:, :3], 1e3)], dim=1) for name, x in given.items()}
    with torch.no_grad():
        alone, together = model(**given), model(**padded, pad_mask=mask("1111000"))
    torch.testing.assert_close(together[:, :4], alone, rtol=1e-5, atol=1e-5)
    assert torch.equal(together[:, 4:], torch.zeros(1, 3, 16))


def test_a_clip_does_not_change_the_outputs_of_its_batch() -> None:
    model, given = encoder(), clip(3, 4)
    pad = mask("1111", "1000", "1110")
    with torch.no_grad():
        together = model(**given, pad_mask=pad)
        alone = model(**{name: x[2:, :3] for name, x in given.items()})
    torch.testing.assert_close(together[2:, :3], alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stream", ["face", "hand_l", "hand_r", "pose"])
def test_what_is_not_finite_in_padding_reaches_neither_output_nor_gradient(stream: str) -> None:
    model, given = encoder().train(), clip()
    given[stream][1, 3:] = float("nan")
    output = model(**given, pad_mask=mask("11111", "11100"))
    output.sum().backward()
    assert output.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_the_order_of_the_frames_matters() -> None:
    model, given = encoder(), clip()
    backwards = model(**{name: x.flip(1) for name, x in given.items()}).flip(1)
    assert not torch.allclose(backwards, model(**given), atol=1e-2)


def test_left_and_right_are_told_apart_though_they_share_a_backbone() -> None:
    model, given = encoder(), clip()
    swapped = {**given, "hand_l": given["hand_r"], "hand_r": given["hand_l"]}
    assert not torch.allclose(model(**swapped), model(**given), atol=1e-2)


@pytest.mark.parametrize("stream", ["face", "hand_l", "hand_r", "pose"])
def test_every_stream_counts(stream: str) -> None:
    model, given = encoder(), clip()
    assert not torch.allclose(model(**{**given, stream: given[stream] + 1.0}), model(**given), atol=1e-2)


# What is missing


@pytest.mark.parametrize(("argument", "name"), [("hand_l", "miss_mask_hl"), ("hand_r", "miss_mask_hr")])
def test_a_missing_hand_cannot_be_seen(argument: str, name: str) -> None:
    model, given = encoder(), clip()
    changed = {**given, argument: given[argument].clone()}
    changed[argument][0, 2] = float("nan")
    missing = {name: mask("00100", "00000")}
    assert torch.equal(model(**changed, **missing), model(**given, **missing))
    assert not torch.allclose(model(**given, **missing), model(**given), atol=1e-3)


def test_a_missing_hand_leaves_the_rest_of_its_frame() -> None:
    model, given = encoder(), clip()
    fused: list[Tensor] = []
    model.fusion.register_forward_hook(lambda _m, _i, out: fused.append(out.view(B, T, -1)))
    changed = {**given, "face": given["face"].clone()}
    changed["face"][0, 2] += 1.0
    for x in (given, changed):
        model(**x, miss_mask_hl=mask("00100", "00000"))
    differs = (fused[0] - fused[1]).abs().amax(dim=-1) > 1e-2
    assert torch.equal(differs, mask("00100", "00000"))


def test_a_stream_left_out_is_missing_in_every_frame() -> None:
    model, given = encoder(), clip()
    missing = model(**given, miss_mask_hl=torch.ones(B, T))
    del given["hand_l"]
    assert torch.equal(model(**given), missing)


@pytest.mark.parametrize("name", ["face", "hand_left", "hand_right", "pose"])
def test_what_is_missing_is_learned_for_each_stream(name: str) -> None:
    model, given = encoder().train(), clip()
    del given[{"face": "face", "hand_left": "hand_l", "hand_right": "hand_r", "pose": "pose"}[name]]
    model(**given).square().sum().backward()
    assert model.missing[name].grad.abs().sum() > 0
    assert [other for other in model.missing if model.missing[other].grad.abs().sum() > 0] == [name]


def test_an_untrusted_joint_cannot_be_seen_and_an_untrusted_pose_is_missing() -> None:
    model, given = encoder(), clip()
    changed = {**given, "pose": given["pose"].clone()}
    changed["pose"][0, 2, 3:] = float("nan")
    joints = torch.ones(B, T, 2, dtype=torch.bool)
    joints[0, 2, 1] = False
    zeros = {**given, "pose": given["pose"].clone()}
    zeros["pose"][0, 2, 3:] = 0.0
    assert torch.equal(model(**changed, pose_conf_mask=joints), model(**zeros))
    joints[0, 2, 0] = False
    missing = model(**given, pose_conf_mask=mask("11011", "11111"))
    assert torch.equal(model(**given, pose_conf_mask=joints), missing)


def test_any_subset_of_streams_can_be_built() -> None:
    assert encoder({"face": backbone()}, pose_dim=0)(face=clip()["face"]).shape == (B, T, 16)
    assert encoder({}, pose_dim=6)(pose=clip()["pose"]).shape == (B, T, 16)


# Backbones


def test_a_shared_backbone_runs_once_on_the_frames_of_both_hands_that_are_seen() -> None:
    face, hands = Counting(), Counting()
    model = encoder({"face": face, "hand_left": hands, "hand_right": hands})
    model(**clip(), pad_mask=mask("11111", "11000"), miss_mask_hl=mask("01000", "00000"))
    assert face.batches == [(7, 3, 16, 16)]
    assert hands.batches == [(6 + 7, 3, 16, 16)]


def test_separate_backbones_see_their_own_frames() -> None:
    modules = {"face": Counting(), "hand_left": Counting(), "hand_right": Counting()}
    encoder(modules)(**clip())
    assert [module.batches for module in modules.values()] == [[(B * T, 3, 16, 16)]] * 3


def test_sharing_gives_what_copies_give() -> None:
    shared = encoder()
    copies = encoder({"face": backbone(), "hand_left": backbone(1), "hand_right": backbone(1)})
    copies.load_state_dict({**copies.state_dict(), **shared.state_dict()})
    torch.testing.assert_close(copies(**clip()), shared(**clip()))


def test_a_shared_backbone_is_stored_once() -> None:
    model = encoder()
    keys = [key for key in model.state_dict() if key.startswith("backbones.")]
    assert {key.split(".")[1] for key in keys} == {"face", "hand_left"}
    assert model.backbone_of == {"face": "face", "hand_left": "hand_left", "hand_right": "hand_left"}
    assert model.backbones["hand_left"] is model.backbones[model.backbone_of["hand_right"]]


def test_a_state_dict_comes_back(tmp_path: Any) -> None:
    model, other = encoder(), encoder({"face": backbone(7), **dict.fromkeys(("hand_left", "hand_right"), backbone(8))})
    other.fusion[0].weight.data.zero_()
    torch.save(model.state_dict(), tmp_path / "encoder.pt")
    other.load_state_dict(torch.load(tmp_path / "encoder.pt", weights_only=True))
    assert torch.equal(other(**clip()), model(**clip()))


def test_what_as_backbone_gives_is_used_and_shared() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Counting()

        def as_backbone(self) -> nn.Module:
            return self.inner

    hands = Wrapped()
    model = encoder({"hand_left": hands, "hand_right": hands})
    model(**{name: x for name, x in clip().items() if name != "face"})
    assert hands.inner.batches == [(2 * B * T, 3, 16, 16)]
    assert not [key for key in model.state_dict() if "inner" in key]


@pytest.mark.parametrize("where", ["config", "embed_dim", "num_features"])
def test_a_width_is_read_where_slt_reads_it(where: str) -> None:
    class Config:
        embed_dim = 4

    class Network(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.flatten(1)[:, :4]

    network = Network()
    setattr(network, where, Config() if where == "config" else 4)
    assert encoder({"face": network})(face=clip()["face"]).shape == (B, T, 16)


def test_a_backbone_may_be_a_function_that_makes_it() -> None:
    model = encoder({"face": backbone, "hand_left": backbone})
    assert model.backbone_of == {"face": "face", "hand_left": "hand_left"}


# Chunks


@pytest.mark.parametrize("frozen", [False, True])
def test_chunks_give_the_same_output_and_gradients(frozen: bool) -> None:
    results = []
    for at_once in (0, 3):
        model = encoder(frames_at_once=at_once)
        for module in model.backbones.values():
            module.requires_grad_(not frozen)
        model.train()
        output = model(**clip())
        output.square().sum().backward()
        results.append([output, *(p.grad for p in model.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1]) > 10
    for whole, chunked in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-4, atol=1e-5)


def test_chunks_bound_the_batch_of_a_backbone() -> None:
    face = Counting()
    encoder({"face": face}, frames_at_once=4)(face=clip()["face"])
    assert [batch[0] for batch in face.batches] == [4, 4, 2]


def test_chunks_keep_less_for_the_backward_pass() -> None:
    def kept(at_once: int) -> int:
        sizes = []
        model = encoder({"face": backbone()}, frames_at_once=at_once).train()
        with torch.autograd.graph.saved_tensors_hooks(lambda x: sizes.append(x.nbytes) or x, lambda x: x):
            model(face=clip()["face"])
        return sum(sizes)

    assert kept(2) < kept(0) / 2


# Training


def parts_with_gradients(model: MultiStreamEncoder) -> set[str]:
    return {name.split(".")[0] for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}


def test_gradients_reach_every_parameter_that_is_used() -> None:
    model = encoder().train()
    for module in model.backbones.values():
        module.mask_token.requires_grad_(False)
    model(**clip(), miss_mask_hl=mask("10000", "00000"), miss_mask_hr=mask("00000", "01000")).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []
    idle = {name for name, p in model.named_parameters() if p.requires_grad and not p.grad.abs().sum() > 0}
    assert idle == {"missing.face", "missing.pose"}
    assert parts_with_gradients(model) == {"backbones", "projectors", "missing", "fusion", "temporal"}


def test_a_frozen_backbone_stays_in_evaluation_and_out_of_the_graph() -> None:
    backbones = shared_hands()
    backbones["hand_left"].requires_grad_(False)
    model = encoder(backbones).train()
    hands, face = model.backbones["hand_left"], model.backbones["face"]
    assert (model.training, face.training, hands.training) == (True, True, False)
    outputs: dict[str, Tensor] = {}
    for name, module in (("hands", hands), ("face", face)):
        module.register_forward_hook(lambda _m, _i, out, name=name: outputs.update({name: out}))
    given = clip()
    given["hand_l"].requires_grad_(True)
    model(**given).sum().backward()
    assert (outputs["face"].requires_grad, outputs["hands"].requires_grad) == (True, False)
    assert all(p.grad is None for p in hands.parameters())
    assert "projectors" in parts_with_gradients(model)


def test_a_new_encoder_is_in_training_with_what_was_loaded_for_evaluation() -> None:
    learning, frozen = backbone().eval(), backbone().requires_grad_(False)
    model = MultiStreamEncoder({"face": learning, "hand_left": frozen}, **SMALL)
    assert (model.training, learning.training, frozen.training) == (True, True, False)


def test_a_backbone_with_one_trainable_block_is_in_the_graph() -> None:
    face = backbone().requires_grad_(False)
    face.blocks[1].requires_grad_(True)
    model = encoder({"face": face}).train()
    model(face=clip()["face"]).square().sum().backward()
    assert face.training
    assert face.blocks[1].mlp.fc1.weight.grad.abs().sum() > 0
    assert face.blocks[0].mlp.fc1.weight.grad is None


def test_dropout_is_noise_in_training_only() -> None:
    model, given = encoder(dropout=0.5, temporal=TemporalSettings(2, 2, 32, 0.25)), clip()
    rates = {name.split(".")[0]: module.p for name, module in model.named_modules() if isinstance(module, nn.Dropout)}
    assert rates == {"projectors": 0.5, "dropout": 0.5, "temporal": 0.25}
    assert torch.equal(model(**given), model(**given))
    model.train()
    assert not torch.equal(model(**given), model(**given))


def test_evaluation_without_gradients_gives_what_training_without_dropout_gives() -> None:
    model, pad = encoder(), mask("11111", "11000")
    with torch.no_grad():
        fast = model(**clip(), pad_mask=pad)
    torch.testing.assert_close(fast, model.train()(**clip(), pad_mask=pad), rtol=1e-5, atol=1e-5)


def test_it_runs_under_autocast() -> None:
    model, missing = encoder().train(), mask("10000", "00000")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(**clip(), miss_mask_hl=missing)
    torch.testing.assert_close(output.float(), model(**clip(), miss_mask_hl=missing), rtol=0.1, atol=0.1)


def test_it_learns_when_a_hand_is_missing() -> None:
    model = encoder({"hand_left": Counting()}, pose_dim=0).train()
    reader, frames = nn.Linear(16, 1), torch.randn(8, 4, 3, 8, 8)
    first_half = torch.arange(8) % 2 == 0
    missing = torch.stack([first_half, first_half, ~first_half, ~first_half], dim=1)
    optimizer = torch.optim.Adam([*model.parameters(), *reader.parameters()], lr=1e-2)
    for _ in range(60):
        scores = reader(model(hand_l=frames, miss_mask_hl=missing).mean(1))[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(scores, first_half.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.1


# What is refused


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbones": {"hands": backbone()}}, "'hands' is not one of face, hand_left, hand_right"),
        ({"backbones": {}, "pose_dim": 0}, "has no stream"),
        ({"backbones": {"face": nn.Linear(2, 2)}}, "does not say how wide"),
        ({"d_model": 18, "temporal": TemporalSettings(4)}, "d_model: 18"),
        ({"frames_at_once": -1}, "frames_at_once"),
        ({"projector_dim": 0}, "projector_dim"),
        ({"pose_dim": -3}, r"pose_dim: must be at least 0 \(got -3\)"),
        ({"temporal": TemporalSettings(nhead=0)}, "nhead: must be at least 1"),
        ({"temporal": TemporalSettings(nlayers=0)}, "nlayers: must be at least 1"),
    ],
)
def test_a_wrong_setting_is_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        encoder(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: {}, "no stream was given"),
        (lambda x: {**x, "face": x["face"][:, 0]}, r"face: \[2, 3, 16, 16\] is not \[batch, time, 3, height, width\]"),
        (lambda x: {**x, "face": x["face"].movedim(2, 4)}, r"face: \[2, 5, 16, 16, 3\] is not"),
        (lambda x: {**x, "pose": x["pose"][0]}, r"pose: \[5, 6\] is not"),
        (lambda x: {**x, "pose": x["pose"][..., :4]}, "4 numbers a frame, not the 6"),
        (lambda x: {**x, "hand_l": x["hand_l"][:, :3]}, "face 2 x 5, hand_left 2 x 3"),
        (lambda x: {**x, "pad_mask": mask("111", "110")}, r"pad_mask: \[2, 3\] is not \[2, 5\]"),
        (lambda x: {**x, "pad_mask": mask("11111", "00000")}, "clip 1 of the batch has no frame"),
        (lambda x: {**x, "miss_mask_hl": mask("0000", "0000")}, "miss_mask_hl: "),
        (lambda x: {**x, "pose_conf_mask": torch.ones(B, T, 4)}, "4 joints do not divide"),
        (
            lambda x: {"face": x["face"], "miss_mask_hr": mask("00000", "00000")},
            "miss_mask_hr: was given without its stream hand_right",
        ),
    ],
)
def test_a_wrong_batch_is_named(change: Callable[[dict[str, Tensor]], dict[str, Tensor]], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        encoder()(**change(clip()))


def test_a_stream_that_it_was_not_built_for_is_named() -> None:
    with pytest.raises(SettingsError, match="hand_left: the encoder was built for face, pose only"):
        encoder({"face": backbone()})(**clip())


def test_a_backbone_that_gives_no_feature_per_frame_is_named() -> None:
    class Tokens(Counting):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images)[:, None].expand(-1, 4, -1)

    with pytest.raises(SettingsError, match=r"face: its backbone gave \[10, 4, 2\] .* not \[10, 2\]"):
        encoder({"face": Tokens()})(face=clip()["face"])


def test_frames_that_are_not_whole_patches_are_named() -> None:
    with pytest.raises(SettingsError, match="face: frames of 16 x 12 pixels are not whole patches of 8 x 8"):
        encoder()(face=torch.randn(B, T, 3, 16, 12))
