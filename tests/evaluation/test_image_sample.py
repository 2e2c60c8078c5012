"""Which images a report looks at, and what their names say."""

from pathlib import Path
from typing import Any

import pytest
import torch

from sltdino.core.settings_network import VitSettings
from sltdino.data.groups import group_pattern
from sltdino.data.image_folder import ImageFolder, scan
from sltdino.errors import CheckpointError, DataError
from sltdino.evaluation.clips import group_clips
from sltdino.evaluation.features import Pixels
from sltdino.evaluation.image_sample import groups_of, read_sample, spread_sample
from sltdino.models.vit import VisionTransformer

PIXELS = Pixels(16, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def network() -> VisionTransformer:
    torch.manual_seed(0)
    vit = VitSettings(
        patch_size=8, embed_dim=16, depth=1, num_heads=2, mlp_ratio=2.0, registers=0, layer_scale=0.0,
        layer_norm_eps=1e-5,
    )  # fmt: skip
    return VisionTransformer(vit, image_size=16).eval()


@pytest.fixture
def labelled(tmp_path: Path, draw: Any) -> ImageFolder:
    """9 images of `a`, 2 of `b`, 5 of `c`."""
    for label, count in (("a", 9), ("b", 2), ("c", 5)):
        draw(tmp_path / "images" / label, count, seed=ord(label))
    return scan([tmp_path / "images"])


def test_the_labels_come_in_turn_while_they_last(labelled: ImageFolder) -> None:
    numbers = spread_sample(labelled, 12)
    assert "".join(labelled.label(number) for number in numbers) == "abcabcacacac"
    assert len(set(numbers)) == 12
    assert numbers == spread_sample(labelled, 12)
    assert numbers[:5] == spread_sample(labelled, 5)
    assert sorted(spread_sample(labelled, 99)) == list(range(16))


def test_features_belong_to_their_images_and_bad_ones_are_counted(
    labelled: ImageFolder, network: VisionTransformer
) -> None:
    numbers = spread_sample(labelled, 20)  # more than a batch
    labelled.path(numbers[2]).write_bytes(b"no image")
    sample = read_sample(network, labelled, numbers, PIXELS)
    kept = [*numbers[:2], *numbers[3:]]
    assert sample.unreadable == 1
    assert sample.paths == tuple(labelled.path(number) for number in kept)
    assert sample.labels == tuple(labelled.label(number) for number in kept)
    alone = torch.cat([network(PIXELS.load(path)[None]) for path in sample.paths]).detach()
    torch.testing.assert_close(sample.features_MD, alone, rtol=1e-4, atol=1e-5)


def test_images_that_are_all_bad_and_weights_that_are_no_numbers_are_refused(
    labelled: ImageFolder, network: VisionTransformer
) -> None:
    with torch.no_grad():
        network.cls_token.fill_(float("nan"))
    with pytest.raises(CheckpointError, match="not finite"):
        read_sample(network, labelled, [0, 1], PIXELS)
    labelled.path(3).write_bytes(b"")
    with pytest.raises(DataError, match=r"none of 1 images can be read, for one .*/a/3\.png"):
        read_sample(network, labelled, [3], PIXELS)


@pytest.mark.parametrize(
    ("names", "regex", "expected"),
    [
        (["0/signer151-4746.jpg", "0/signer7-1.jpg"], "", ("signer", ("signer151", "signer7"))),
        (["l/cat_f01.png", "l/cat_f02.png", "r/cat_f01.png"], "", ("clip", ("l/cat", "l/cat", "r/cat"))),
        (["0/P03_x.png", "1/P04_x.png", "1/none.png"], r"^P(\d+)", ("group", ("03", "04", ""))),
        (["0/signer1.png", "0/signer2.png"], "(no match)", ("signer", ("signer1", "signer2"))),
        (["0/signer1.png", "1/signer1.png"], "", ("", ("", ""))),  # one signer is nothing to tell apart
        (["0/signer1.png", "0/a.png", "0/b.png", "0/signer2.png", "0/c.png"], "", ("", ("",) * 5)),
        (["0/1.png"], "", ("", ("",))),
    ],
)
def test_groups_come_from_the_regex_else_from_signers_else_from_clips(
    names: list[str], regex: str, expected: tuple[str, tuple[str, ...]]
) -> None:
    root = Path("/data/signer99/crops")  # above the data set: of all of them, so of none
    assert (
        groups_of(
            [root / name for name in names], [Path("/other"), root], pattern=group_pattern(regex) if regex else None
        )
        == expected
    )


def test_a_crop_s_clip_is_the_one_it_is_grouped_into(tmp_path: Path, draw: Any) -> None:
    for folder, name in (("l", "cat_f1"), ("l", "cat_f22"), ("r", "cat_f1"), ("r", "cat_f3_f4")):
        draw(tmp_path / folder, 1)
        (tmp_path / folder / "0.png").rename(tmp_path / folder / f"{name}.png")
    images = scan([tmp_path])
    named = groups_of([images.path(number) for number in range(4)], [tmp_path])
    assert named.name == "clip"
    for clip in group_clips(images, tmp_path):
        assert {named.of[number] for number in clip.images} == {clip.file}
