"""The k-NN probe: which images it looks at, and that it changes nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sltdino.core.settings_network import VitSettings
from sltdino.data.image_folder import scan
from sltdino.errors import DataError, SettingsError
from sltdino.evaluation import knn_probe
from sltdino.evaluation.features import Pixels
from sltdino.evaluation.knn_probe import KnnProbe
from sltdino.models.vit import VisionTransformer

IMAGENET = Pixels(16, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
COLOURS = {"blue": (0, 0, 250), "green": (0, 250, 0), "red": (250, 0, 0)}


def paint(folder: Path, labels: str, count: int, *, seed: int) -> Path:
    """Images whose colour is their label, nearly."""
    rng = np.random.default_rng(seed)
    for label in labels.split():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            noise = rng.integers(0, 120, (20, 28, 3))
            pixels = np.clip(np.array(COLOURS[label]) // 2 + noise, 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture
def network() -> VisionTransformer:
    torch.manual_seed(0)
    vit = VitSettings(
        patch_size=8,
        embed_dim=16,
        depth=1,
        num_heads=2,
        mlp_ratio=4.0,
        registers=0,
        layer_scale=0.0,
        layer_norm_eps=1e-5,
        drop_path=0.5,
    )
    return VisionTransformer(vit, image_size=16)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., KnnProbe]:
    """`make(train_labels, val_labels)` paints images and makes a probe; `make.bad` lists the bad ones it found."""
    paint(tmp_path / "val", "red green blue", 4, seed=1)
    paint(tmp_path / "train", "red green blue", 5, seed=2)
    paint(tmp_path / "flat", "red", 5, seed=2)

    def make(train: str = "train", on_bad: Any = lambda *_: None) -> KnnProbe:
        images, val = scan([tmp_path / train]), scan([tmp_path / "val"])
        return KnnProbe(images, val, IMAGENET, k=3, temp=0.07, on_bad=on_bad)

    return make


def test_neighbours_come_from_training_folders_with_the_same_labels(make: Any) -> None:
    probe = make()
    assert (len(probe.bank.paths), len(probe.queries.paths), probe.leave_one_out) == (15, 12, False)
    assert probe.protocol == "weighted 3-NN, 12 validation images against 15 training images"


def test_without_labelled_training_images_each_is_judged_by_the_others(make: Any) -> None:
    probe = make("flat")
    assert probe.leave_one_out
    assert probe.protocol == "weighted 3-NN, 12 validation images against the other validation images"


@pytest.mark.parametrize("train", ["train", "flat"])
def test_colours_are_told_apart_by_their_pixels(make: Any, train: str) -> None:
    assert make(train).pixel_accuracy() == 1


def test_the_accuracy_is_that_of_the_features(make: Any, network: VisionTransformer) -> None:
    probe = make()
    network.eval()
    with torch.no_grad():
        bank, queries = (
            torch.cat([network(IMAGENET.load(path)[None]) for path in data.paths])
            for data in (probe.bank, probe.queries)
        )
    cosine = torch.nn.functional.normalize(queries, dim=1) @ torch.nn.functional.normalize(bank, dim=1).T
    right = 0
    for row, label in zip(cosine, probe.queries.labels_M, strict=True):
        votes = torch.zeros(3)
        for neighbour in row.argsort(descending=True)[:3]:
            votes[probe.bank.labels_M[neighbour]] += (row[neighbour] / 0.07).exp()
        right += int(votes.argmax() == label)
    assert probe.accuracy(network, "cpu") == pytest.approx(right / 12)


def test_a_large_set_is_sampled_and_always_the_same_way(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn_probe, "MAX_BANK", 6)
    monkeypatch.setattr(knn_probe, "MAX_QUERIES", 5)
    torch.manual_seed(1)
    one = make()
    torch.manual_seed(2)
    other = make()
    assert (len(one.bank.paths), len(one.queries.paths)) == (6, 5)
    assert (one.bank.paths, one.queries.paths) == (other.bank.paths, other.queries.paths)
    assert [path.parent.name for path in one.bank.paths] == [sorted(COLOURS)[label] for label in one.bank.labels_M]


def test_an_unreadable_image_is_left_out_and_reported(make: Any, network: VisionTransformer, tmp_path: Path) -> None:
    broken = tmp_path / "val" / "red" / "3.png"
    found: list[tuple[Path, str]] = []
    probe = make(on_bad=lambda path, reason: found.append((path, reason)))
    broken.write_bytes(b"broken")
    assert probe.pixel_accuracy() == 1
    assert 0 <= probe.accuracy(network, "cpu") <= 1
    assert [path for path, _ in found] == [broken, broken]
    assert all(reason for _, reason in found)


@pytest.mark.parametrize("train", ["train", "flat"])
def test_a_folder_without_readable_images_is_a_data_error(make: Any, train: str) -> None:
    probe = make(train)
    for path in probe.queries.paths:
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="0 of 12 labelled images can be read"):
        probe.pixel_accuracy()


def test_one_label_is_too_few(tmp_path: Path) -> None:
    images = scan([paint(tmp_path / "one", "red", 3, seed=0)])
    with pytest.raises(SettingsError, match=r"at least two labels \(found red\)"):
        KnnProbe(images, images, IMAGENET, k=3, temp=0.07, on_bad=lambda *_: None)


@pytest.mark.parametrize("training", [True, False])
def test_it_leaves_the_training_mode_and_uses_evaluation(make: Any, network: VisionTransformer, training: bool) -> None:
    network.train(training)
    seen: list[bool] = []
    for module in network.modules():
        module.register_forward_pre_hook(lambda module, _: seen.append(module.training))
    make().accuracy(network, "cpu")
    assert seen
    assert not any(seen)
    assert all(module.training is training for module in network.modules())


def test_it_leaves_the_random_state(make: Any, network: VisionTransformer) -> None:
    torch.manual_seed(3)
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    probe = make()
    probe.pixel_accuracy()
    probe.accuracy(network, "cpu")
    assert torch.equal(torch.get_rng_state(), before)
    assert (np.random.get_state()[1] == before_numpy).all()  # type: ignore[index]
