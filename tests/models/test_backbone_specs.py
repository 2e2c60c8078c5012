"""SLT's grammar of backbones, row by row."""

from pathlib import Path
from typing import Any

import pytest

from sltdino.errors import SettingsError
from sltdino.models.backbone_specs import BackboneSource, parse_mapping, parse_spec

DINOV2 = "facebookresearch/dinov2"


@pytest.mark.parametrize(
    ("spec", "source"),
    [
        ("file::b.pt", BackboneSource("file", "b.pt")),
        ("local::b.pt", BackboneSource("file", "b.pt")),
        ("FILE::runs/b.pt:slt_vitsmall_patch16", BackboneSource("file", "runs/b.pt", model="slt_vitsmall_patch16")),
        ("file::/a/b.pt:dinov2_vits14_reg", BackboneSource("file", "/a/b.pt", model="dinov2_vits14_reg")),
        ("file::~/b.pt:vit_small_patch16_224", BackboneSource("file", "~/b.pt", model="vit_small_patch16_224")),
        (r"file::C:\w\b.pt", BackboneSource("file", r"C:\w\b.pt")),
        (r"file::C:\w\b.pt:dino_vits16", BackboneSource("file", r"C:\w\b.pt", model="dino_vits16")),
        ("file::C:/w/b.pt:SLT_ViTSmall_Patch16", BackboneSource("file", "C:/w/b.pt", model="SLT_ViTSmall_Patch16")),
        ("file::a::b.pt", BackboneSource("file", "a::b.pt")),
        ("hf::facebook/dinov2-small", BackboneSource("hf", "facebook/dinov2-small")),
        ("HuggingFace::a/b:w.bin", BackboneSource("hf", "a/b", file="w.bin")),
        ("hf::a/b:w.bin:dinov2_vits14", BackboneSource("hf", "a/b", file="w.bin", model="dinov2_vits14")),
        ("hf::a/b::dinov2_vits14", BackboneSource("hf", "a/b", model="dinov2_vits14")),
        ("torchhub::dinov2_vits14", BackboneSource("torchhub", DINOV2, model="dinov2_vits14", variant="pretrained")),
        ("dinov2_vitb14", BackboneSource("torchhub", DINOV2, model="dinov2_vitb14", variant="pretrained")),
        ("dinov2_vitb14:random", BackboneSource("torchhub", DINOV2, model="dinov2_vitb14", variant="random")),
        ("torchhub::m:False", BackboneSource("torchhub", DINOV2, model="m", variant="random")),
        ("torchhub::m:1", BackboneSource("torchhub", DINOV2, model="m", variant="pretrained")),
        ("torchhub::a/b:m", BackboneSource("torchhub", "a/b", model="m", variant="pretrained")),
        ("torchhub::a/b:m:none", BackboneSource("torchhub", "a/b", model="m", variant="random")),
        ("torchhub::a/b:main:m", BackboneSource("torchhub", "a/b:main", model="m", variant="pretrained")),
        ("torchhub::a/b:v1:m:no", BackboneSource("torchhub", "a/b:v1", model="m", variant="random")),
        ("torchhub::a/b:m:", BackboneSource("torchhub", "a/b", model="m", variant="pretrained")),
        (r"torchhub::C:\hub:m", BackboneSource("torchhub", r"C:\hub", model="m", variant="pretrained")),
        ("torchvision::vit_b_16", BackboneSource("torchvision", model="vit_b_16", variant="default")),
        ("TV::vit_b_16:imagenet1k", BackboneSource("torchvision", model="vit_b_16", variant="imagenet1k")),
        ("torchvision::vit_b_16:none", BackboneSource("torchvision", model="vit_b_16", variant="none")),
    ],
)
def test_a_text_is_read_as_the_grammar_says(spec: str, source: BackboneSource) -> None:
    assert parse_spec(spec) == source


@pytest.mark.parametrize("name", ["b:c.pt", "b.pt:slt_vitsmall_patch16", "1:2:3"])
def test_all_of_the_remainder_is_the_path_where_there_is_such_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert parse_spec(f"file::{tmp_path / name}") == BackboneSource("file", str(tmp_path / name))
    with_model = parse_spec(f"file::{tmp_path / name}:dino_vits8")
    assert with_model == BackboneSource("file", str(tmp_path / name), model="dino_vits8")


def test_an_unknown_model_after_a_file_is_a_model(tmp_path: Path) -> None:
    (tmp_path / "b.pt").touch()
    assert parse_spec(f"file::{tmp_path / 'b.pt'}:my_vit") == BackboneSource("file", f"{tmp_path}/b.pt", model="my_vit")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("files::b.pt", "'files' is not one of the sources file, local, hf"),
        ("::b.pt", "'' is not one of the sources"),
        ("file::", "names nothing after file::"),
        ("hf:::", "names nothing after hf::"),
        ("", "names nothing after torchhub::"),
        ("hf::a:b:c:d", r"is not hf::REPO\[:FILE\[:MODEL\]\]"),
        ("hf:::b", "is not hf::REPO"),
        ("torchvision::m:w:x", r"is not torchvision::MODEL\[:WEIGHTS\]"),
        ("torchhub::a/b:m::", "names no model"),
        ("\x1b[1m::x", r"'\\\\x1b\[1m' is not one of"),
    ],
)
def test_a_text_outside_of_the_grammar_is_refused(spec: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_spec(spec)


def test_a_file_without_its_source_is_told_how_to_be_written(tmp_path: Path) -> None:
    (tmp_path / "b.pt").touch()
    with pytest.raises(SettingsError, match=r"write file::.*b\.pt"):
        parse_spec(str(tmp_path / "b.pt"))


@pytest.mark.parametrize(
    ("mapping", "spec"),
    [
        ({"type": "file", "path": "b.pt"}, "file::b.pt"),
        ({"type": "local", "checkpoint": Path("b.pt"), "model": "dino_vits8"}, "file::b.pt:dino_vits8"),
        ({"source": "path", "path": "b.pt", "architecture": "dino_vits8", "freeze": True}, "file::b.pt:dino_vits8"),
        ({"type": "hf", "repo_id": "a/b"}, "hf::a/b"),
        ({"type": "HuggingFace", "repository": "a/b", "filename": "w", "model": "dino_vits8"}, "hf::a/b:w:dino_vits8"),
        ({"type": "hf", "repo_id": "a/b", "filename": None}, "hf::a/b"),
        ({"type": "torchhub", "model": "m"}, "torchhub::m"),
        ({"type": "torchhub", "repo": "a/b:main", "model": "m", "pretrained": False}, "torchhub::a/b:main:m:random"),
        ({"type": "torchhub", "repository": "a/b", "model": "m", "mode": "random"}, "torchhub::a/b:m:random"),
        ({"type": "torchvision", "model": "vit_b_16", "weights": None}, "torchvision::vit_b_16"),
        ({"type": "tv", "model": "vit_b_16", "weights": "none"}, "torchvision::vit_b_16:none"),
        ({"type": "dinov2", "spec": "dinov2_vits14"}, "dinov2_vits14"),
        ({"spec": "file::b.pt"}, "file::b.pt"),
        ({"type": "default", "identifier": "hf::a/b"}, "hf::a/b"),
    ],
)
def test_a_mapping_says_the_same_as_a_text(mapping: dict[str, Any], spec: str) -> None:
    assert parse_mapping(mapping) == parse_spec(spec)


def test_a_path_in_a_mapping_is_taken_as_it_is() -> None:
    assert parse_mapping({"type": "file", "path": "b:dino_vits8"}) == BackboneSource("file", "b:dino_vits8")


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"type": "tar", "path": "b"}, "type 'tar' is not one of file, local"),
        ({"type": "file"}, "type file needs 'path'"),
        ({"type": "file", "path": ""}, "type file needs 'path'"),
        ({"type": "hf", "filename": "b"}, "type hf needs 'repo_id'"),
        ({"type": "torchhub", "repo": "a/b"}, "type torchhub needs 'model'"),
        ({"type": "torchvision"}, "type torchvision needs 'model'"),
        ({"path": "b"}, "unknown key 'path' in a mapping of type dinov2"),
        ({"type": "file", "path": "b", "modle": "c"}, "unknown key 'modle' .* path, checkpoint, model, architecture"),
        ({"type": "file", "path": "b", "checkpoint": "b"}, "'path' and 'checkpoint' mean the same"),
        ({"type": "file", "source": "file", "path": "b"}, "'type' and 'source' mean the same"),
        ({"type": "torchhub", "model": "m", "pretrained": "maybe"}, "mode 'maybe' is not one of pretrained"),
    ],
)
def test_a_mapping_that_means_nothing_is_refused(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        parse_mapping(mapping)
