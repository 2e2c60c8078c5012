"""`tools/pretrain_utils.py`, used as other people's scripts use it."""

import inspect
import json
import math
import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sltdino.errors import DataError, RunFolderError, SettingsError
from sltdino.exporting.slt_network import SltNetwork
from tools.pretrain_utils import (
    AugmentationConfig,
    BackboneConfig,
    DINOMultiCropAugmentation,
    ExperimentTracker,
    ImageFolderDataset,
    build_dataloader,
    build_vit_backbone,
    export_for_dinov2,
)

SMALL = AugmentationConfig(image_size=16, local_crop_size=8, num_local_crops=3)
NARROW = BackboneConfig(image_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=2)
UNTOUCHED = AugmentationConfig(
    image_size=24, global_crop_scale=(1, 1), num_local_crops=0, color_jitter_prob=0, grayscale_prob=0,
    gaussian_blur_prob=0, solarize_prob=0, hflip_prob=0, mean=(0, 0, 0), std=(1, 1, 1),
)  # fmt: skip
FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
"""Python 3.12 says so of torch's own loader, which is what these scripts use."""


class Crops(Dataset[Any]):
    """What people write around the two helpers."""

    def __init__(self, root: Path) -> None:
        self.images = ImageFolderDataset([root])
        self.augment = DINOMultiCropAugmentation(SMALL)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[list[Tensor], list[Tensor]]:
        return self.augment(self.images[index])


@FORKS
@pytest.mark.parametrize("workers", [0, 2])
def test_under_the_default_collate_a_batch_is_two_lists_of_stacked_crops(workers: int, pictures: Path) -> None:
    batches = list(DataLoader(Crops(pictures), batch_size=8, num_workers=workers))
    assert len(batches) == 3
    for global_crops, local_crops in batches:
        assert [crop.shape for crop in global_crops] == [(8, 3, 16, 16)] * 2
        assert [crop.shape for crop in local_crops] == [(8, 3, 8, 8)] * 3
        assert len({crop.sum().item() for crop in global_crops[0]}) == 8
        assert all(crop.dtype == torch.float32 and crop.isfinite().all() for crop in (*global_crops, *local_crops))


@FORKS
@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_of_build_dataloader_is_a_list_of_rgb_pictures(workers: int, own_pictures: Path) -> None:
    loader = build_dataloader(
        [str(own_pictures)], batch_size=10, num_workers=workers, shuffle=False, pin_memory=True,
        persistent_workers=True,
    )  # fmt: skip
    batches = list(loader)
    assert [len(batch) for batch in batches] == [10, 10, 4]
    assert all(isinstance(image, Image.Image) and image.mode == "RGB" for batch in batches for image in batch)
    seen = [np.asarray(image) for batch in batches for image in batch]
    for number, pixels in enumerate(seen):  # the order of the names, read as numbers
        assert np.array_equal(pixels, np.asarray(Image.open(own_pictures / f"{number}.png")))


def test_build_dataloader_shuffles_and_collates_as_it_is_told(pictures: Path) -> None:
    def corner(batch: list[Image.Image]) -> list[Any]:
        return [image.getpixel((0, 0)) for image in batch]

    def read(**options: Any) -> list[Any]:
        loader = build_dataloader([pictures], batch_size=24, num_workers=0, collate_fn=corner, **options)
        return next(iter(loader))  # type: ignore[no-any-return]

    in_order, shuffled = read(shuffle=False), read()
    assert in_order != shuffled
    assert sorted(in_order) == sorted(shuffled)


def test_the_data_set_takes_files_and_folders_and_counts_from_both_ends(own_pictures: Path) -> None:
    (own_pictures / "deep").mkdir()
    (own_pictures / "3.png").rename(own_pictures / "deep" / "x.PNG")
    images = ImageFolderDataset([own_pictures / "deep", own_pictures / "5.png"])
    assert len(images) == 2
    assert images[-1].tobytes() == images[1].tobytes() == Image.open(own_pictures / "5.png").tobytes()
    assert images.roots == [own_pictures / "deep", own_pictures / "5.png"]
    with pytest.raises(IndexError):
        images[2]


def test_missing_folders_and_folders_without_images_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ImageFolderDataset([tmp_path / "nowhere"])
    with pytest.raises(FileNotFoundError, match="no PNG, JPEG, BMP or TIFF images"):
        build_dataloader([tmp_path], batch_size=1, num_workers=0)


def test_a_damaged_image_is_named(own_pictures: Path) -> None:
    (own_pictures / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"0\.png: not a PNG"):
        ImageFolderDataset([own_pictures])[0]


def test_a_crop_of_one_colour_is_that_colour_normalised() -> None:
    config = AugmentationConfig(**{**asdict(UNTOUCHED), "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)})
    global_crops, no_crops = DINOMultiCropAugmentation(config)(Image.new("RGB", (60, 40), (200, 100, 50)))
    assert no_crops == []
    expected = [(200 / 255 - 0.5) / 0.2, (100 / 255 - 0.4) / 0.3, (50 / 255 - 0.3) / 0.4]
    for crop in global_crops:
        torch.testing.assert_close(crop, torch.tensor(expected).view(3, 1, 1).expand(3, 24, 24))


def test_a_certain_flip_mirrors(pictures: Path) -> None:
    image = Image.open(pictures / "0.png")
    flipped = DINOMultiCropAugmentation(AugmentationConfig(**{**asdict(UNTOUCHED), "hflip_prob": 1.0}))
    random.seed(5)
    plain = DINOMultiCropAugmentation(UNTOUCHED)(image)[0]
    random.seed(5)
    for crop, mirrored in zip(plain, flipped(image)[0], strict=True):
        assert torch.equal(crop, mirrored.flip(-1))


def test_crops_follow_the_seed_of_random_and_differ_from_call_to_call(pictures: Path) -> None:
    image, augment = Image.open(pictures / "0.png"), DINOMultiCropAugmentation(SMALL)
    random.seed(1)
    first, second = augment(image), augment(image)
    random.seed(1)
    again = augment(image)
    assert all(torch.equal(a, b) for kind in (0, 1) for a, b in zip(first[kind], again[kind], strict=True))
    assert not torch.equal(first[0][0], second[0][0])
    assert not torch.equal(first[0][0], first[0][1])


def test_any_number_of_global_crops_is_cut_each_in_memory_of_its_own(pictures: Path) -> None:
    config = AugmentationConfig(**{**asdict(SMALL), "num_global_crops": 3, "num_local_crops": 1, "image_size": 17})
    global_crops, local_crops = DINOMultiCropAugmentation(config)(Image.open(pictures / "1.png").convert("L"))
    assert [crop.shape for crop in global_crops + local_crops] == [(3, 17, 17)] * 3 + [(3, 8, 8)]
    assert all(crop.untyped_storage().nbytes() == 4 * crop.numel() for crop in global_crops + local_crops)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"hue": 0.7}, "--aug-hue: must be at most 0.5"),
        ({"num_global_crops": 0}, "num_global_crops: must be at least 1"),
        (
            {"local_crop_size": "auto", "gaussian_blur_prob": "auto"},
            "local_crop_size, gaussian_blur_prob: 'auto' is for",
        ),
        ({"mean": (0.5, 0.5)}, "--aug-mean: needs 3 values"),
        ({"global_crop_scale": (0.9, 0.1)}, "--global-crop-scale: starts above its end"),
    ],
)
def test_a_wrong_augmentation_is_refused_before_any_picture(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        DINOMultiCropAugmentation(AugmentationConfig(**wrong))


def test_a_backbone_gives_class_and_patch_tokens_and_follows_the_seed_of_torch() -> None:
    torch.manual_seed(3)
    backbone = build_vit_backbone(NARROW)
    torch.manual_seed(3)
    assert all(map(torch.equal, backbone.state_dict().values(), build_vit_backbone(NARROW).state_dict().values()))
    images = torch.randn(2, 3, 32, 32)
    cls, patches = backbone.forward_with_patches(images)
    assert (cls.shape, patches.shape) == ((2, 32), (2, 16, 32))
    assert torch.equal(backbone(images), cls)
    assert backbone.embed_dim == 32
    local_cls, _ = backbone.forward_with_patches(images[:, :, :16, :16])
    assert local_cls.shape == (2, 32)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pretrained": True}, "pretrained: no weights are downloaded here"),
        ({"model_name": "dinov2_vitb14", "repo": "x/y"}, "model_name, repo: no weights"),
        ({"num_heads": 5}, "5 heads do not divide the width 384"),
        ({"image_size": 100}, "100 is not a multiple of the patch size 14"),
        ({"embed_dim": "auto"}, "embed_dim: 'auto' is for runs"),
        ({"depth": 0}, "--vit-depth: must be at least 1"),
    ],
)
def test_a_wrong_backbone_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        build_vit_backbone(BackboneConfig(**wrong))


def test_an_export_is_what_slt_loads_and_computes_the_same(tmp_path: Path) -> None:
    backbone = build_vit_backbone(NARROW).train()
    path = tmp_path / "new" / "backbone.pt"
    given = {"stream": "face", "algorithm": "dino", "best_loss": math.inf, "epochs": 3, "global_step": np.int64(12)}
    export_for_dinov2(path, backbone=backbone, metadata=given)
    payload = torch.load(path, weights_only=True)
    assert payload.keys() == {"model", "metadata"}
    assert payload["metadata"]["backbone"] == {
        "image_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_ratio": 4.0
    }  # fmt: skip
    assert {key: payload["metadata"].get(key) for key in given} == {**given, "best_loss": None}
    assert json.loads(path.with_suffix(".json").read_text("utf-8")).items() >= payload["metadata"].items()
    network = SltNetwork(payload["metadata"]["backbone"]).eval()
    network.load_state_dict(payload["model"], strict=True)
    images = torch.randn(2, 3, 32, 32)
    for ours, theirs in zip(backbone.forward_with_patches(images), network.forward_features(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    assert backbone.training
    assert all(parameter.requires_grad for parameter in backbone.parameters())
    export_for_dinov2(str(path), backbone=backbone)  # again, under a plain name and without metadata
    assert torch.load(path, weights_only=True)["metadata"].keys() == {"backbone"}


def test_another_normalisation_named_in_the_metadata_is_folded_in(tmp_path: Path) -> None:
    backbone, images = build_vit_backbone(NARROW), torch.rand(2, 3, 32, 32)
    export_for_dinov2(
        tmp_path / "b.pt", backbone=backbone, metadata={"trained_with": {"mean": (0.5,) * 3, "std": (0.25,) * 3}}
    )
    payload = torch.load(tmp_path / "b.pt", weights_only=True)
    network = SltNetwork(payload["metadata"]["backbone"]).eval()
    network.load_state_dict(payload["model"])
    imagenet = (images - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor([0.229, 0.224, 0.225]).view(
        3, 1, 1
    )
    theirs = network.forward_features(imagenet).cls_BD
    torch.testing.assert_close(theirs, backbone((images - 0.5) / 0.25), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("metadata", "error", "message"),
    [
        ({"backbone": {"depth": 12}}, SettingsError, "metadata: its backbone is {'depth': 12}, and the network's is"),
        ({"backbone": "vit"}, SettingsError, "metadata: its backbone is 'vit'"),
        ({"trained_with": {"mean": [0.5]}}, SettingsError, "--aug-mean: needs 3 values"),
        ({"loss": {"value": math.nan}}, ValueError, "loss.value: nan is not a number JSON knows"),
        ({"model": nn.Linear(1, 1)}, TypeError, "model: a Linear cannot be written as JSON"),
    ],
)
def test_wrong_metadata_is_refused_and_nothing_is_written(
    metadata: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        export_for_dinov2(tmp_path / "b.pt", backbone=build_vit_backbone(NARROW), metadata=metadata)
    assert list(tmp_path.iterdir()) == []


def test_a_module_of_another_kind_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="backbone: a Linear is not exported here"):
        export_for_dinov2(tmp_path / "b.pt", backbone=nn.Linear(2, 2))


def test_a_tracker_writes_the_three_files(tmp_path: Path) -> None:
    tracker = ExperimentTracker(tmp_path / "run", history_filename="metrics.jsonl")
    tracker.log_params({"algorithm": "dino", "train_dirs": (Path("a"), Path("b")), "tags": {"x", "a"}})
    started = datetime(2026, 1, 2, tzinfo=UTC)
    tracker.log_params({"algorithm": "ibot", "started": started})
    params = json.loads((tmp_path / "run/params.json").read_text("utf-8"))
    assert datetime.fromisoformat(params.pop("timestamp")).tzinfo == UTC
    assert params == {
        "algorithm": "ibot", "train_dirs": ["a", "b"], "tags": ["a", "x"], "started": "2026-01-02T00:00:00+00:00"
    }  # fmt: skip

    tracker.log_metrics(7, {"loss": 0.5, "epoch": 1, "step": 3}, context="train_step")
    tracker.log_metrics(8, {"loss": math.nan})
    first, second = map(json.loads, (tmp_path / "run/metrics.jsonl").read_text("utf-8").splitlines())
    assert first | {"timestamp": ""} == {
        "step": 7, "timestamp": "", "context": "train_step", "loss": 0.5, "epoch": 1, "epoch_step": 3
    }  # fmt: skip
    assert second | {"timestamp": ""} == {"step": 8, "timestamp": "", "loss": None, "non_finite": ["loss"]}

    weights = tmp_path / "model.pt"
    tracker.register_artifact(weights, name="checkpoint_last", metadata={"epoch": 1})
    tracker.register_artifact(weights)
    ExperimentTracker(tmp_path / "run").register_artifact(weights, name="checkpoint_last", metadata={"epoch": 2})
    artifacts = json.loads((tmp_path / "run/artifacts.json").read_text("utf-8"))
    assert [(entry["name"], entry["metadata"]) for entry in artifacts] == [
        ("checkpoint_last", {"epoch": 2}), ("model.pt", {})
    ]  # fmt: skip
    assert all(entry["path"] == str(weights) for entry in artifacts)


def test_a_tracker_goes_on_in_the_folder_of_a_run_and_takes_a_history_in_a_folder(finished: Path) -> None:
    before = (finished / "metrics.jsonl").read_text("utf-8")
    tracker = ExperimentTracker(finished)
    tracker.log_params({"note": "from outside"})
    tracker.log_metrics(9, {"bleu": 14.3}, context="downstream")
    tracker.register_artifact(finished / "checkpoint_last.pt", name="checkpoint_last")
    params = json.loads((finished / "params.json").read_text("utf-8"))
    assert (params["algorithm"], params["note"]) == ("dino", "from outside")
    assert (finished / "metrics.jsonl").read_text("utf-8").startswith(before)
    assert len(json.loads((finished / "artifacts.json").read_text("utf-8"))) == 2
    ExperimentTracker(finished, history_filename="logs/a.jsonl").log_metrics(1, {"loss": 1})
    assert (finished / "logs/a.jsonl").is_file()


@pytest.mark.parametrize("content", ["{", "7"])
def test_a_damaged_file_is_not_replaced_in_silence(content: str, tmp_path: Path) -> None:
    tracker = ExperimentTracker(tmp_path)
    for path, write in ((tracker.params_path, tracker.log_params), (tracker.artifacts_path, tracker.register_artifact)):
        path.write_text(content)
        with pytest.raises(RunFolderError, match=path.name):
            write({} if path == tracker.params_path else Path("x"))  # type: ignore[operator]
        assert path.read_text() == content


SIGNATURES: dict[Callable[..., Any], list[str]] = {
    ImageFolderDataset: ["roots"],
    build_dataloader: [
        "roots", "*batch_size", "*num_workers", "*shuffle=True", "*pin_memory=False", "*persistent_workers=False",
        "*collate_fn=None",
    ],
    AugmentationConfig: [
        "image_size=224", "global_crop_scale=(0.4, 1.0)", "local_crop_size=96", "local_crop_scale=(0.05, 0.4)",
        "num_global_crops=2", "num_local_crops=8", "brightness=0.4", "contrast=0.4", "saturation=0.2", "hue=0.1",
        "color_jitter_prob=0.8", "grayscale_prob=0.2", "gaussian_blur_prob=0.5", "solarize_prob=0.1",
        "hflip_prob=0.5", "mean=(0.485, 0.456, 0.406)", "std=(0.229, 0.224, 0.225)",
    ],
    DINOMultiCropAugmentation: ["config"],
    BackboneConfig: [
        "image_size=224", "patch_size=14", "embed_dim=384", "depth=12", "num_heads=6", "mlp_ratio=4.0",
        "model_name='dinov2_vits14'", "repo='facebookresearch/dinov2'", "pretrained=False",
    ],
    build_vit_backbone: ["config"],
    export_for_dinov2: ["path", "*backbone", "*metadata=None"],
    ExperimentTracker: [
        "root", "*history_filename='metrics.jsonl'", "*params_filename='params.json'",
        "*artifacts_filename='artifacts.json'",
    ],
    ExperimentTracker.log_metrics: ["self", "step", "metrics", "context=None"],
    ExperimentTracker.register_artifact: ["self", "path", "name=None", "metadata=None"],
}  # fmt: skip
"""As they always were, apart from `pretrained`, which was True; `*` marks what goes by name only."""


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_signatures_stay(function: Callable[..., Any]) -> None:
    parameters = inspect.signature(function).parameters.values()
    shown = [
        "*" * (parameter.kind is parameter.KEYWORD_ONLY)
        + parameter.name
        + (f"={parameter.default!r}" if parameter.default is not parameter.empty else "")
        for parameter in parameters
    ]
    assert shown == SIGNATURES[function]


def test_it_imports_from_its_folder_where_sltdino_is_not_installed(
    tools: Path, not_installed: dict[str, str], tmp_path: Path
) -> None:
    program = f"import sys; sys.path.insert(0, {str(tools)!r}); import pretrain_utils, sltdino; print(sltdino.__file__)"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=tmp_path, env=not_installed, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == tools.parent / "sltdino" / "__init__.py"
