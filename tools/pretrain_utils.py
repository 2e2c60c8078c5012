"""What other scripts import from here, under the names it always had, built from the parts of `sltdino`.

Works as `tools.pretrain_utils` with the checkout on `sys.path`, and as `pretrain_utils` from this folder. New code
takes the parts themselves: `sltdino.data`, `sltdino.models.vit`, `sltdino.exporting`, `sltdino.core.run_dir`.
"""

import copy
import importlib.util
import json
import random
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

if importlib.util.find_spec("sltdino") is None:  # not installed: take the checkout that this file is in
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sltdino.core import artifacts, files, json_files, run_files
from sltdino.core.json_lines import JsonLines
from sltdino.core.settings_base import known
from sltdino.core.settings_errors import shown
from sltdino.core.settings_files import load_settings
from sltdino.data.crops import CropParameters, draw_crops, draw_uniforms
from sltdino.data.decode import BadImage, decode, to_rgb
from sltdino.data.image_folder import scan
from sltdino.data.kernels import apply_crops, one_thread
from sltdino.errors import DataError, MissingInputError, RunFolderError, SettingsError
from sltdino.exporting.backbone import TrainedBackbone, network_shape
from sltdino.exporting.formats import write_backbone
from sltdino.models.vit import VisionTransformer

__all__ = [
    "AugmentationConfig",
    "BackboneConfig",
    "DINOMultiCropAugmentation",
    "ExperimentTracker",
    "ImageFolderDataset",
    "build_dataloader",
    "build_vit_backbone",
    "export_for_dinov2",
]


class ImageFolderDataset(Dataset[Image.Image]):
    """The images in files and folders (recursively) as RGB pictures, in the order in which a run reads them.

    Raises:
        FileNotFoundError: a root does not exist, or there are no images in any.
    """

    def __init__(self, roots: Sequence[Path | str]) -> None:
        self.roots = [Path(root).expanduser().resolve() for root in roots]
        try:
            self._images = scan(self.roots)
        except (MissingInputError, DataError) as error:
            raise FileNotFoundError(str(error)) from error

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Image.Image:
        """Picture `index`, upright; a negative one counts from the end.

        Raises:
            DataError: the file cannot be read as an image.
        """
        path = self._images.path(range(len(self))[index])
        try:
            return Image.fromarray(decode(path))
        except BadImage as error:
            raise DataError(f"{path}: {error.reason}; remove the file, or repair it") from error


def build_dataloader(
    roots: Sequence[Path | str],
    *,
    batch_size: int,
    num_workers: int,
    shuffle: bool = True,
    pin_memory: bool = False,
    persistent_workers: bool = False,
    collate_fn: Callable[[list[Image.Image]], Any] | None = None,
) -> "DataLoader[Image.Image]":
    """Torch's loader over an `ImageFolderDataset`. A batch is a list of pictures, unless `collate_fn` makes it another.

    Raises:
        FileNotFoundError: as `ImageFolderDataset`.
    """
    return DataLoader(
        ImageFolderDataset(roots),
        batch_size=batch_size,
        shuffle=shuffle,
        num_workers=num_workers,
        collate_fn=collate_fn or list,
        pin_memory=pin_memory and torch.cuda.is_available(),
        persistent_workers=persistent_workers and num_workers > 0,
    )


@dataclass
class AugmentationConfig:
    """Multi-crop and colour; the fields mean what the flags of these names do, the defaults are those of old."""

    image_size: int = 224
    global_crop_scale: tuple[float, float] = (0.4, 1.0)
    local_crop_size: int = 96
    local_crop_scale: tuple[float, float] = (0.05, 0.4)
    num_global_crops: int = 2
    num_local_crops: int = 8
    brightness: float = 0.4
    contrast: float = 0.4
    saturation: float = 0.2
    hue: float = 0.1
    color_jitter_prob: float = 0.8
    grayscale_prob: float = 0.2
    gaussian_blur_prob: float = 0.5
    solarize_prob: float = 0.1
    hflip_prob: float = 0.5
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class DINOMultiCropAugmentation:
    """Random crops of a picture, drawn and cut as in a run. They follow `random.seed`, and differ between workers.

    Raises:
        SettingsError: a value of `config`, which is read once, is out of its range.
    """

    def __init__(self, config: AugmentationConfig) -> None:
        self.config = config
        values = _numbers(config)
        num_global_crops = values.pop("num_global_crops")
        if num_global_crops < 1:
            raise SettingsError(f"num_global_crops: must be at least 1 (got {num_global_crops})")
        # patches of one pixel: crops of any size are legal here, where no network is known
        settings = load_settings(flags={"train_dir": ".", "patch_size": 1, "augmentation": values}).settings
        # unvalidated: a run's objectives need two global crops, cutting them does not; it had no turns and no light
        update = {"num_global_crops": num_global_crops, "light": 0.0, "rotation": 0.0}
        self._settings = settings.augmentation.model_copy(update=update)

    def __call__(self, image: Image.Image) -> tuple[list[Tensor], list[Tensor]]:
        """Global crops `[3, image_size, image_size]` and local ones `[3, local_crop_size, local_crop_size]`, float32
        and normalised."""
        pixels, crops = to_rgb(image), self._settings
        local_size, num_local_crops = known(crops.local_crop_size), known(crops.num_local_crops)
        rng = np.random.default_rng(random.getrandbits(128))
        uniforms_BCK = draw_uniforms(rng, crops.num_global_crops + num_local_crops)[None]
        drawn = draw_crops(uniforms_BCK, np.array([pixels.shape[:2]]), crops)

        def cut(params: CropParameters, size: int) -> list[Tensor]:
            each = (params.at((slice(number, number + 1), 0)) for number in range(len(params.hue)))
            return [apply_crops([pixels], crop, size=size, mean=crops.mean, std=crops.std)[0] for crop in each]

        with one_thread():
            return cut(drawn.global_crops, crops.image_size), cut(drawn.local_crops, local_size)


@dataclass
class BackboneConfig:
    """The shape of a ViT. The last three fields chose weights of torch hub; nothing is downloaded here."""

    image_size: int = 224
    patch_size: int = 14
    embed_dim: int = 384
    depth: int = 12
    num_heads: int = 6
    mlp_ratio: float = 4.0
    model_name: str = "dinov2_vits14"
    repo: str = "facebookresearch/dinov2"
    pretrained: bool = False


_DEFAULTS = BackboneConfig()


ViTBackbone = VisionTransformer
"""Its name in the old scripts."""


def build_vit_backbone(config: BackboneConfig) -> ViTBackbone:
    """A ViT with random weights, drawn from torch's global generator.

    Raises:
        SettingsError: a value is out of its range or does not fit another, or weights of torch hub are asked for.
    """
    asked = [name for name in ("model_name", "repo", "pretrained") if getattr(config, name) != getattr(_DEFAULTS, name)]
    if asked:
        raise SettingsError(
            f"{', '.join(asked)}: no weights are downloaded here; leave the default, and load a file's into it"
        )
    values = _numbers(config)
    shape = {name: values[name] for name in ("patch_size", "embed_dim", "depth", "num_heads", "mlp_ratio")}
    rest = {"registers": 0, "layer_scale": 0.0, "layer_norm_eps": 1e-5}
    vit = {"weight_init": "trunc_normal", **rest, **shape}
    settings = load_settings(flags={"train_dir": ".", "image_size": config.image_size, "vit": vit}).settings
    return ViTBackbone(settings.vit, image_size=config.image_size)


def _numbers(config: AugmentationConfig | BackboneConfig) -> dict[str, Any]:
    values = asdict(config)
    if words := [name for name, value in values.items() if value == "auto"]:
        raise SettingsError(f"{', '.join(words)}: 'auto' is for runs, which know their images; give a number")
    return values


def export_for_dinov2(path: Path | str, *, backbone: nn.Module, metadata: Mapping[str, object] | None = None) -> None:
    """Write a backbone for SLT's `load_dinov2_backbone("file::PATH:slt_vitsmall_patch16")`, its metadata beside it as
    JSON, and prove that the file computes the same features.

    Args:
        backbone: of `build_vit_backbone`; it stays as it is, and where it is.
        metadata: kept with the weights; its `backbone` is always that of the network. The input is taken to be under
            ImageNet's mean and std, unless `trained_with` has another `mean` and `std`, which is then folded in.

    Raises:
        SettingsError: the backbone is of another kind, or the metadata's is another one.
        ValueError, TypeError: the metadata is no JSON. RunFolderError, CheckpointError, CannotCreateError,
        StorageError: as `sltdino.exporting.formats.write_backbone`.
    """
    if not isinstance(backbone, VisionTransformer):
        raise SettingsError(f"backbone: a {type(backbone).__name__} is not exported here; use build_vit_backbone's")
    facts: dict[str, Any] = json.loads(json_files.dumps(json_files.finite(metadata or {})))
    shape = network_shape(backbone)
    claimed = facts.get("backbone", shape)
    if not isinstance(claimed, dict) or any(claimed.get(name, value) != value for name, value in shape.items()):
        raise SettingsError(f"metadata: its backbone is {shown(claimed)}, and the network's is {shown(shape)}")
    facts["backbone"] = claimed | shape
    given = {"mean": AugmentationConfig.mean, "std": AugmentationConfig.std} | facts.get("trained_with", {})
    crops = load_settings(flags={"train_dir": ".", "mean": given["mean"], "std": given["std"]}).settings.augmentation
    network = copy.deepcopy(backbone).cpu().float().eval().requires_grad_(False)
    write_backbone(TrainedBackbone(network, crops.mean, crops.std, facts), format="slt", out=Path(path))


class ExperimentTracker:
    """Parameters, metrics and artifacts of an experiment in the files of a run folder, which need not be a run's.

    Unlike a run it holds no lock and may be made anew for a folder in use; every call writes its file whole.
    """

    def __init__(
        self,
        root: Path | str,
        *,
        history_filename: str = "metrics.jsonl",
        params_filename: str = run_files.PARAMS,
        artifacts_filename: str = run_files.ARTIFACTS,
    ) -> None:
        self.root = Path(root)
        with files.os_errors(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
        self.history_path = self.root / history_filename
        self.params_path = self.root / params_filename
        self.artifacts_path = self.root / artifacts_filename

    def log_params(self, params: Mapping[str, object]) -> None:
        """Add to the parameters; the time of the first call is kept.

        Raises:
            ValueError, TypeError: a value is no JSON. RunFolderError: the file is damaged.
        """
        before = _stored(self.params_path, dict)
        json_files.write(self.params_path, {"timestamp": json_files.now()} | before | dict(params))

    def log_metrics(self, step: int, metrics: Mapping[str, object], context: str | None = None) -> None:
        """Add a record. A number that is not finite becomes null; a metric called `step` is the step in the epoch, and
        recorded as `epoch_step`.

        Raises:
            ValueError, TypeError: a value is no JSON.
        """
        record: dict[str, object] = {"step": step, "timestamp": json_files.now()}
        record |= {"context": context} if context else {}
        named = {"epoch_step" if name == "step" else name: value for name, value in metrics.items()}
        with files.os_errors(self.history_path):
            self.history_path.parent.mkdir(parents=True, exist_ok=True)
        with closing(JsonLines(self.history_path)) as history:
            history.append(record | json_files.finite(named))

    def register_artifact(
        self, path: Path | str, name: str | None = None, metadata: Mapping[str, object] | None = None
    ) -> None:
        """Record a file. A second one of the same name takes the place of the first in the list.

        Raises:
            TypeError: the metadata is no JSON. RunFolderError: the list is damaged.
        """
        before = _stored(self.artifacts_path, list)
        json_files.write(self.artifacts_path, artifacts.placed(before, path, name=name, metadata=metadata or {}))


def _stored(path: Path, kind: type[Any]) -> Any:
    content = json_files.read(path) if path.exists() else kind()
    if not isinstance(content, kind):
        raise RunFolderError(f"{path}: not what is kept there; restore it from a backup, or remove it")
    return content
