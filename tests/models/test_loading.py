"""Backbones by SLT's specifications, from real files and repositories on this machine."""

import enum
import logging
import socket
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sltdino.errors import CheckpointError, MissingInputError, SettingsError, StorageError
from sltdino.exporting.backbone import load_trained_backbone
from sltdino.models import MultiStreamEncoder, load_backbone, load_dinov2_backbone
from sltdino.models.freezing import is_frozen
from sltdino.models.loading import import_named
from sltdino.models.normalisation import IMAGENET_MEAN, IMAGENET_STD
from sltdino.models.vit import VisionTransformer

# the small networks here have widths whose number of heads nothing tells; one test asks for the warning
pytestmark = pytest.mark.filterwarnings("ignore:.*heads. the file does not say:UserWarning")
PICTURES = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(0))


def normalised(mean: Any, std: Any, pictures: Tensor = PICTURES) -> Tensor:
    return (pictures - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


IMAGES = normalised(IMAGENET_MEAN, IMAGENET_STD)


@pytest.fixture
def saved(tmp_path: Path, foreign: Any) -> Callable[..., Path]:
    """`saved("slt")` writes random weights in a layout, as the whole file or inside a container."""

    def saved(table: str, wrap: Callable[[dict[str, Tensor]], Any] = dict, name: str = "b.pt", **size: int) -> Path:
        torch.save(wrap(foreign.weights(table, **size)), tmp_path / name)
        return tmp_path / name

    return saved


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


# The network


def test_the_export_of_a_run_is_loaded_as_the_original_guide_says(
    train: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guide's section on exports, word for word but for the package, on a run with the guide's normalisation."""
    monkeypatch.chdir(tmp_path)
    mean, std = (0.481, 0.457, 0.408), (0.268, 0.261, 0.276)
    run = train(epochs=1, export_backbone="path/al/backbone.pt", aug_mean=list(mean), aug_std=list(std)).run_dir

    backbone = load_dinov2_backbone("file::path/al/backbone.pt:slt_vitsmall_patch16")

    pictures, exported = torch.rand(4, 3, 16, 16), load_trained_backbone(run).network
    with torch.no_grad():
        features = backbone.forward_features(normalised(IMAGENET_MEAN, IMAGENET_STD, pictures))
        expected = exported.forward_features(normalised(mean, std, pictures))
    for one, other in zip(features, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    encoder = MultiStreamEncoder(backbones={"face": backbone, "hand_left": "file::path/al/backbone.pt"})
    assert encoder(face=pictures[None], hand_l=pictures[None]).shape == (1, 4, 512)


def test_a_run_folder_takes_imagenet_s_normalisation_whatever_it_was_trained_with(train: Any) -> None:
    run = train(epochs=1, aug_mean=[0.5, 0.4, 0.3], aug_std=[0.25, 0.2, 0.3]).run_dir
    trained = load_trained_backbone(run)
    assert trained.mean == (0.5, 0.4, 0.3)
    pictures = torch.rand(4, 3, 16, 16)
    with torch.no_grad():
        features = load_dinov2_backbone(f"file::{run}")(normalised(IMAGENET_MEAN, IMAGENET_STD, pictures))
        expected = trained.network(normalised(trained.mean, trained.std, pictures))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_it_has_what_slt_asks_of_a_backbone(saved: Any) -> None:
    backbone = load_dinov2_backbone(f"file::{saved('slt')}:slt_vitsmall_patch16")
    assert isinstance(backbone, VisionTransformer)
    assert (backbone.embed_dim, len(backbone.blocks), backbone.training) == (24, 2, False)
    cls = backbone(IMAGES)
    assert cls.shape == (3, 24)
    assert torch.equal(backbone.forward_features(IMAGES)[0], cls)
    assert [x.shape for x in backbone.forward_with_patches(IMAGES)] == [(3, 24), (3, 9, 24)]
    assert not any(hasattr(backbone, name) for name in ("projector", "head", "linear_head", "mlp_head"))


def test_it_learns_unless_it_is_frozen(saved: Any) -> None:
    spec = f"file::{saved('slt')}"
    backbone = load_dinov2_backbone(spec)
    backbone(IMAGES).square().sum().backward()
    assert [name for name, p in backbone.named_parameters() if p.requires_grad and p.grad is None] == []
    assert [name for name, p in backbone.named_parameters() if not p.requires_grad] == ["mask_token"]
    assert is_frozen(load_dinov2_backbone(spec, freeze=True))
    some = load_dinov2_backbone(spec, freeze="blocks[:1],embed")
    assert {name.split(".")[0] for name, p in some.named_parameters() if p.requires_grad} == {"blocks", "norm"}


def test_it_is_moved_where_it_is_wanted(saved: Any) -> None:
    backbone = load_dinov2_backbone(f"file::{saved('slt')}", map_location="meta")
    assert {p.device.type for p in backbone.parameters()} == {"meta"}


@pytest.mark.parametrize(
    "wrap",
    [
        dict,
        lambda w: {"model": w},
        lambda w: {"state_dict": w, "model": {}},
        lambda w: {"state_dict": {f"module.{key}": value for key, value in w.items()}},
        lambda w: {"model": {f"model.backbone.{key}": value for key, value in w.items()}},
        lambda w: {f"module.encoder.trunk.{key}": value for key, value in w.items()},
    ],
)
def test_every_container_gives_the_same_network(saved: Any, wrap: Any) -> None:
    plain = load_dinov2_backbone(f"file::{saved('slt')}")
    wrapped = load_dinov2_backbone(f"file::{saved('slt', wrap, name='w.pt')}:slt_vitsmall_patch16")
    assert torch.equal(wrapped(IMAGES), plain(IMAGES))


def test_the_normalisation_that_weights_expect_is_folded_and_an_assumed_one_is_told(saved: Any) -> None:
    with pytest.warns(UserWarning, match=r"b\.pt: .*normalisation: 0\.5 and 0\.5") as caught:
        backbone = load_dinov2_backbone(f"file::{saved('timm')}")
    assert caught[0].filename == __file__
    features = backbone(IMAGES)
    weights = torch.load(saved("timm"), weights_only=True)
    backbone.patch_embed.proj.load_state_dict({k: weights[f"patch_embed.proj.{k}"] for k in ("weight", "bias")})
    expected = backbone(normalised((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)))
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


# What is refused


def test_a_number_of_heads_that_is_guessed_is_warned_of(saved: Any) -> None:
    with pytest.warns(UserWarning, match=r"b\.pt: heads: the file does not say how many; one per 64 channels makes 2"):
        load_dinov2_backbone(f"file::{saved('dino', width=128)}")


@pytest.mark.parametrize(
    ("table", "model", "message"),
    [
        ("slt", "dinov2_vits14", "not a dinov2_vits14: embed_dim 24, not 384"),
        ("dinov2", "SLT_vitsmall_patch16", "in the layout of dinov2, not in that of SLT_vitsmall_patch16"),
        ("slt", "vit_small_patch16_224", "not a vit_small_patch16_224: .* patch_size 4, not 16"),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_refused(saved: Any, table: str, model: str, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        load_dinov2_backbone(f"file::{saved(table)}:{model}")


def test_a_public_network_loads_under_its_name(saved: Any) -> None:
    sizes = {"width": 384, "depth": 12, "hidden": 1536, "patch": 14, "grid": 4}
    path = saved("dinov2", **sizes)
    assert load_dinov2_backbone(f"file::{path}:dinov2_vits14").embed_dim == 384
    with pytest.raises(CheckpointError, match="registers 0, not 4"):
        load_dinov2_backbone(f"file::{path}:dinov2_vits14_reg")


def test_an_unknown_model_and_a_missing_file_are_named(saved: Any, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"'my_vit' is no known architecture; .* slt_vitsmall_patch16"):
        load_dinov2_backbone(f"file::{saved('slt')}:my_vit")
    for nowhere in ("~nobody-of-that-name/b.pt", "x" * 5000):
        with pytest.raises((MissingInputError, StorageError), match=r"nobody|xxx"):
            load_dinov2_backbone(f"file::{nowhere}")
    with pytest.raises(MissingInputError, match=r"no\.pt: "):
        load_dinov2_backbone(f"file::{tmp_path}/no.pt:slt_vitsmall_patch16")


def test_a_missing_or_unexpected_name_is_an_error_unless_told_otherwise(
    saved: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved("slt", lambda w: {"extra.weight": w.pop("norm.bias"), **w})
    with pytest.raises(CheckpointError, match=r"missing norm\.bias; unexpected extra\.weight"):
        load_dinov2_backbone(f"file::{path}")
    caplog.set_level(logging.INFO, "sltdino.models.loading")
    with pytest.warns(UserWarning, match=r"b\.pt: .*missing norm\.bias; unexpected extra\.weight"):
        backbone = load_dinov2_backbone(f"file::{path}", strict=False)
    assert backbone(IMAGES).isfinite().all()
    assert "missing norm.bias" in caplog.text


def test_no_code_in_a_file_is_run(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"model": {"cls_token": Payload()}}, tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "ran").exists(), "the payload works where it is let"
    (tmp_path / "ran").unlink()
    with pytest.raises(CheckpointError):
        load_dinov2_backbone(f"file::{tmp_path}/evil.pt")
    assert not (tmp_path / "ran").exists()


# load_backbone


def test_a_mapping_loads_what_its_text_does_and_its_freeze_wins(saved: Any) -> None:
    path = saved("slt")
    mapping = {"type": "file", "path": str(path), "model": "slt_vitsmall_patch16", "freeze": {"blocks": 1}}
    backbone = load_backbone(mapping, freeze=True)
    assert torch.equal(backbone(IMAGES), load_backbone(f"file::{path}")(IMAGES))
    frozen = {name.split(".")[1] for name, p in backbone.named_parameters() if not p.requires_grad and "." in name}
    assert frozen == {"0"}
    assert is_frozen(load_backbone({"type": "file", "path": str(path)}, freeze=True))
    assert is_frozen(load_backbone({"type": "file", "path": str(path), "freeze": None}, freeze=True))
    assert not is_frozen(load_backbone({"type": "file", "path": str(path), "freeze": False}, freeze=True))


def test_a_module_stays_itself_and_keeps_its_mode() -> None:
    module = nn.Linear(2, 2)
    assert load_backbone(module) is module
    assert module.training
    assert is_frozen(load_backbone(module, freeze=True))
    module.weight.requires_grad_(True)
    assert not is_frozen(load_backbone(module)), "what trains is left alone"


def test_a_function_gives_the_module() -> None:
    assert isinstance(load_backbone(lambda: nn.Linear(2, 2)), nn.Linear)
    assert is_frozen(load_backbone(lambda: nn.Linear(2, 2), freeze=True))
    assert load_backbone(lambda: nn.Linear(2, 2), map_location="meta").weight.device.type == "meta"


@pytest.mark.parametrize("spec", [3, lambda: "b.pt", None])
def test_what_is_no_specification_is_named(spec: Any) -> None:
    with pytest.raises(SettingsError, match=r"it is a text such as file::backbone\.pt, a mapping, a module"):
        load_backbone(spec)


# torch.hub

HUBCONF = """
import torch
from pathlib import Path

class Net(torch.nn.Module):
    embed_dim = 4
    def __init__(self, pretrained):
        super().__init__()
        self.blocks = torch.nn.ModuleList([torch.nn.Linear(3, 4)])
        self.pretrained = pretrained
    def forward(self, images):
        return self.blocks[0](images.mean((2, 3)))

def net(pretrained=True):
    return Net(pretrained)

def other(pretrained=True):
    return "weights"

def broken(pretrained=True):
    raise KeyError("checkpoint")
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "hub"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    return folder


@pytest.mark.parametrize(
    ("mode", "pretrained"), [("", True), (":pretrained", True), (":random", False), (":no", False)]
)
def test_torch_hub_builds_from_a_folder(repository: Path, mode: str, pretrained: bool) -> None:
    backbone = load_dinov2_backbone(f"torchhub::{repository}:net{mode}", freeze=1)
    assert (backbone.pretrained, backbone.training, is_frozen(backbone)) == (pretrained, False, True)
    assert backbone(IMAGES).shape == (3, 4)
    mapping = {"type": "torchhub", "repo": str(repository), "model": "net", "pretrained": pretrained}
    assert load_backbone(mapping).pretrained == pretrained


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        ("absent", MissingInputError, "absent"),
        ("broken", MissingInputError, "KeyError: 'checkpoint'"),
        ("other", CheckpointError, "its code gave a str, not a network"),
    ],
)
def test_a_repository_that_gives_no_network_is_named(
    repository: Path, model: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=f"torchhub::{repository}:{model}: .*{message}"):
        load_dinov2_backbone(f"torchhub::{repository}:{model}")


def test_a_folder_without_hubconf_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match=r"torch\.hub cannot give it .*hubconf"):
        load_dinov2_backbone(f"torchhub::{tmp_path}:net")


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("spec", ["dinov2_vits14", "torchhub::facebookresearch/dinov2:main:dinov2_vits14:random"])
def test_torch_hub_without_a_network_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(MissingInputError, match=r"torchhub::facebookresearch/dinov2.*the folder of a clone"):
        load_dinov2_backbone(spec)


# Hugging Face


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Hugging Face's cache in a folder of the test, and the library offline."""
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


@pytest.fixture
def publish(hub_cache: Path) -> Callable[[str], Path]:
    """`publish("a/b")` makes a repository in the cache, as if it had been downloaded; gives its folder."""

    def publish(repository: str) -> Path:
        folder = hub_cache / f"models--{repository.replace('/', '--')}"
        snapshot = folder / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text("0" * 40)
        return snapshot

    return publish


def test_hugging_face_gives_the_usual_file_with_what_its_config_says(
    publish: Any, foreign: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    safetensors = pytest.importorskip("safetensors.torch")
    import huggingface_hub

    asked, download = [], huggingface_hub.hf_hub_download
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *a, **kw: asked.append(a[1]) or download(*a, **kw))
    snapshot = publish("lab/hands")
    safetensors.save_file(foreign.weights("hf_dinov2"), snapshot / "model.safetensors", {"format": "pt"})
    (snapshot / "config.json").write_text('{"hidden_size": 24, "num_attention_heads": 3, "layer_norm_eps": 1e-6}')
    torch.save(foreign.weights("hf_dinov2", seed=1), snapshot / "pytorch_model.bin")
    backbone = load_dinov2_backbone("hf::lab/hands")
    assert asked == ["model.safetensors", "config.json", "preprocessor_config.json"]
    assert backbone.vit.num_heads == 3
    expected = load_dinov2_backbone(f"file::{snapshot}/model.safetensors")
    other = load_dinov2_backbone("hf::lab/hands:pytorch_model.bin")
    assert torch.equal(backbone(IMAGES), expected(IMAGES))
    assert not torch.equal(other(IMAGES), expected(IMAGES))


def test_hugging_face_gives_pytorch_model_bin_where_there_is_no_safetensors(publish: Any, foreign: Any) -> None:
    snapshot = publish("lab/hands")
    torch.save(foreign.weights("slt"), snapshot / "pytorch_model.bin")
    torch.save(foreign.weights("slt", seed=1), snapshot / "hands.pt")
    usual, named = load_dinov2_backbone("hf::lab/hands"), load_dinov2_backbone("HF::lab/hands:hands.pt")
    assert usual(IMAGES).shape == named(IMAGES).shape == (3, 24)
    assert not torch.equal(usual(IMAGES), named(IMAGES))
    mapping = {"type": "hf", "repo_id": "lab/hands", "filename": "hands.pt", "model": "slt_vitsmall_patch16"}
    assert torch.equal(load_backbone(mapping)(IMAGES), named(IMAGES))
    with pytest.raises(CheckpointError, match="not a dinov2_vits14"):
        load_dinov2_backbone("hf::lab/hands::dinov2_vits14")


def test_a_run_can_start_from_hugging_face_with_the_mean_and_std_of_its_weights(publish: Any, foreign: Any) -> None:
    snapshot = publish("lab/hands")
    torch.save(foreign.weights("hf_dinov2"), snapshot / "pytorch_model.bin")
    (snapshot / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}')
    imported = import_named("hf::lab/hands")
    assert (imported.mean, imported.std) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert imported.source.samefile(snapshot / "pytorch_model.bin")
    fed = load_dinov2_backbone("hf::lab/hands")(IMAGES)
    torch.testing.assert_close(fed, imported.network(normalised(imported.mean, imported.std)), rtol=1e-4, atol=1e-4)


def test_a_repository_or_file_that_is_not_to_be_had_is_named(publish: Any) -> None:
    publish("lab/hands")
    with pytest.raises(MissingInputError, match=r"model\.safetensors or pytorch_model\.bin is not in the cache"):
        load_dinov2_backbone("hf::lab/hands")
    with pytest.raises(MissingInputError, match=r"hf::lab/hands: b\.pt is not in the cache"):
        load_dinov2_backbone("hf::lab/hands:b.pt")
    with pytest.raises(MissingInputError, match="hf::lab/none: "):
        load_dinov2_backbone("hf::lab/none")
    with pytest.raises(SettingsError, match="hf::a/b/c: is not the name of a repository"):
        load_dinov2_backbone("hf::a/b/c")


@pytest.mark.usefixtures("no_network", "hub_cache")
def test_hugging_face_without_a_network_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)  # between its retries
    with pytest.raises(
        MissingInputError, match=r"hf::lab/none: .* is not in the cache, and Hugging Face is out of reach"
    ):
        load_dinov2_backbone("hf::lab/none")
    assert sum(waits) < 60


@pytest.mark.parametrize(
    ("library", "spec", "message"),
    [
        ("huggingface_hub", "hf::a/b", r"needs huggingface_hub .*pip install 'sltdino\[hf\]'"),
        ("torchvision", "torchvision::vit_b_16", r"needs torchvision 0\.14 or newer .*pip install torchvision"),
    ],
)
def test_a_library_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, library: str, spec: str, message: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(SettingsError, match=message):
        load_dinov2_backbone(spec)


# torchvision, which this project never installs: its interface, and its ViT under its own names on torch's own layers


class TorchvisionMlp(nn.Sequential):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), nn.GELU(), nn.Dropout(0), nn.Linear(hidden, width), nn.Dropout(0))


class TorchvisionLayer(nn.Module):
    def __init__(self, width: int, hidden: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(width, num_heads, batch_first=True)
        self.mlp = TorchvisionMlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        y = self.ln_1(x)
        x = x + self.self_attention(y, y, y, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TorchvisionEncoder(nn.Module):
    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, 10, width))
        layers = {f"encoder_layer_{i}": TorchvisionLayer(width, 2 * width, 2) for i in range(depth)}
        self.layers = nn.Sequential()
        for name, layer in layers.items():
            self.layers.add_module(name, layer)
        self.ln = nn.LayerNorm(width, eps=1e-6)


class TorchvisionVit(nn.Module):
    """`torchvision.models.VisionTransformer` with a tiny width."""

    image_size, patch_size, hidden_dim, mlp_dim = 12, 4, 8, 16

    def __init__(self) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, 8, 4, 4)
        self.class_token = nn.Parameter(torch.randn(1, 1, 8))
        self.encoder = TorchvisionEncoder(8, 2)
        self.heads = nn.Sequential()
        self.heads.add_module("head", nn.Linear(8, 5))

    def tokens(self, images: Tensor) -> Tensor:
        x = self.conv_proj(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        return self.encoder.ln(self.encoder.layers(x + self.encoder.pos_embedding))


class Weights(enum.Enum):
    """As torchvision lists a model's weights."""

    IMAGENET1K_V1 = "first"
    SWAG_V1 = "second"
    DEFAULT = "first"

    def transforms(self) -> Any:
        return types.SimpleNamespace(mean=[0.5, 0.5, 0.5], std=[0.5, 0.5, 0.5])


@pytest.fixture
def torchvision(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    built: dict[str, Any] = {}

    def get_model(name: str, *, weights: Any) -> nn.Module:
        if weights is Weights.SWAG_V1:
            raise ConnectionError("no route to host")
        torch.manual_seed(0 if weights else 1)
        built.update(network=TorchvisionVit() if name == "vit_b_16" else nn.Linear(2, 2), weights=weights)
        return built["network"]

    def get_model_weights(name: str) -> type[Weights]:
        if name not in ("vit_b_16", "resnet50"):
            raise ValueError(f"Unknown model {name}")
        return Weights

    models = types.ModuleType("torchvision.models")
    models.get_model, models.get_model_weights = get_model, get_model_weights  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    return built


@pytest.mark.parametrize(("weights", "mean"), [("", 0.5), (":imagenet1k", 0.5), (":random", None)])
def test_a_vit_of_torchvision_becomes_ours(torchvision: dict[str, Any], weights: str, mean: float | None) -> None:
    backbone = load_dinov2_backbone(f"torchvision::vit_b_16{weights}")
    assert (torchvision["weights"] is None) == (mean is None)
    theirs = IMAGES if mean is None else normalised((mean,) * 3, (mean,) * 3)
    with torch.no_grad():
        cls, patches = backbone.forward_features(IMAGES)
        tokens = torchvision["network"].tokens(theirs)
    torch.testing.assert_close(cls, tokens[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(patches, tokens[:, 1:], rtol=1e-4, atol=1e-5)
    assert (backbone.embed_dim, len(backbone.blocks)) == (8, 2)


def test_a_file_of_torchvision_is_read_by_its_names(tmp_path: Path) -> None:
    network = TorchvisionVit()
    torch.save(network.state_dict(), tmp_path / "vit_b_16.pth")
    (tmp_path / "config.json").write_text('{"num_attention_heads": 2}')
    imported = import_named(str(tmp_path / "vit_b_16.pth"))
    assert imported.layout == "torchvision"
    with torch.no_grad():
        cls, patches = imported.network.forward_features(IMAGES)
        tokens = network.tokens(IMAGES)
    torch.testing.assert_close(cls, tokens[:, 0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(patches, tokens[:, 1:], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("torchvision")
@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ("torchvision::vit_x", SettingsError, "no such model .*Unknown model vit_x"),
        ("torchvision::vit_b_16:v9", SettingsError, "no weights 'v9'; it has IMAGENET1K_V1, SWAG_V1, DEFAULT, random"),
        ("torchvision::vit_b_16:swag", MissingInputError, "cannot be fetched .*no route to host"),
        ("torchvision::resnet50", CheckpointError, "a Linear has no class token and patches"),
    ],
)
def test_what_torchvision_cannot_give_is_named(spec: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        load_dinov2_backbone(spec)


def test_the_package_itself_imports_none_of_its_modules() -> None:
    program = "import sys, sltdino.models; print([m for m in sys.modules if m == 'torch' or 'sltdino.models.' in m])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error() -> None:
    import sltdino.models

    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sltdino.models.nothing  # type: ignore[attr-defined]
    assert all(hasattr(sltdino.models, name) for name in sltdino.models.__all__)
