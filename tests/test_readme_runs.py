"""Every command, Python block and settings file of the READMEs and examples is run, in a folder as they describe it.

Only the size changes: networks of a few thousand weights, an epoch, few drawings.
"""

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
EXAMPLES = sorted((ROOT / "examples").glob("*.toml"))

SMALL = [
    *("--epochs", "1", "--batch-size", "8", "--num-workers", "0", "--device", "cpu", "--image-size", "16"),
    *("--vit-drop-path", "0", "--out-dim", "32", "--head-hidden-dim", "32", "--head-bottleneck-dim", "8"),
]
SMALL_NETWORK = [
    *("--vit-embed-dim", "16", "--vit-depth", "2", "--vit-num-heads", "2", "--patch-size", "8"),
    *("--vit-mlp-ratio", "2"),
]
FEW = {"--count": "26", "--epochs": "2"}
"""What the documents give larger values."""


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)


def commands(text: str = README) -> list[list[str]]:
    """The words after `sltdino` of every line of the shell blocks, and of the drawings in running text."""
    lines = [line.strip() for block in blocks("sh", text) for line in block.splitlines()]
    lines += re.findall(r"`(sltdino demo-data [^`]+)`", text)
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("sltdino ")]


def smaller(words: list[str]) -> list[str]:
    shrunk = [FEW.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    if words[0] == "pretrain":
        return shrunk + SMALL + ([] if "--init-from" in words else SMALL_NETWORK)
    return shrunk


@pytest.fixture
def place(tmp_path: Path, draw: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the crops, the settings file and the public weights that the README speaks of."""
    import torch

    from sltdino.core.settings_network import VitSettings
    from sltdino.models.vit import VisionTransformer

    for seed, name in enumerate(("hand_l", "hand_r", "face")):
        draw(tmp_path / "crops" / name, 24, seed=seed)
    for side, signers in (("train", (1, 2, 3)), ("val", (4, 5))):
        for seed, label in enumerate("AB", start=2 * len(side)):
            draw(tmp_path / "labelled" / side / label, len(signers), seed=seed)
            for signer, image in zip(signers, sorted((tmp_path / "labelled" / side / label).iterdir()), strict=True):
                image.rename(image.with_name(f"signer{signer}-{image.name}"))
    (tmp_path / "hands.toml").write_text(blocks("toml")[0], encoding="utf-8")
    shape = {"patch_size": 8, "embed_dim": 64, "depth": 2, "num_heads": 1, "registers": 0, "layer_scale": 0.0}
    vit = VitSettings.model_validate({**shape, "mlp_ratio": 4.0, "layer_norm_eps": 1e-6, "weight_init": "xavier"})
    weights = VisionTransformer(vit, image_size=16).state_dict()
    del weights["mask_token"]
    torch.save(weights, tmp_path / "dino_vits16.pth")  # named as the authors', and much smaller
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(words: list[str]) -> None:
    from sltdino.cli import app

    code = app.main(words)
    assert code == 0, f"sltdino {shlex.join(words)} ended with {code}"


def test_every_command_of_the_readme_runs_in_the_order_in_which_it_stands(place: Path) -> None:
    known = commands()
    assert len(known) > 15
    assert {words[0] for words in known} >= {
        "doctor", "check", "pretrain", "inspect", "evaluate", "export", "config", "resume", "embed", "demo-data",
    }  # fmt: skip
    for words in known:
        run(smaller(words))
    made = (
        "backbone_hands.pt",
        "hands_hf/config.json",
        "hands_timm.safetensors",
        "hands.onnx",
        "face.toml",
        "features",
        "check.html",
        "report.html",
    )
    assert [name for name in made if not (place / name).exists()] == []

    monkeypatch = pytest.MonkeyPatch()
    with monkeypatch.context() as patched:
        import sltdino.models

        patched.setitem(sys.modules, "slt", sys.modules["sltdino"])
        patched.setitem(sys.modules, "slt.models", sltdino.models)
        into_slt, library = blocks("python")
        names: dict[str, Any] = {}
        exec(into_slt, names)
        assert names["hands"].embed_dim == 16
        small = ", ".join(f'"{key}": {value!r}' for key, value in flags().items())
        exec(library.replace('"epochs": 5', f'"epochs": 1, {small}'), {})
    assert (place / "backbone_left.pt").exists()


def flags() -> dict[str, str]:
    """The small sizes as the library takes them."""
    words = [*SMALL[2:], *SMALL_NETWORK]
    return {
        flag.removeprefix("--").replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)
    }


@pytest.mark.parametrize("name", ["README.es.md"])
def test_the_spanish_guide_has_the_same_commands_and_code(name: str) -> None:
    spanish = (ROOT / name).read_text(encoding="utf-8")
    assert commands(spanish) == commands()
    assert [without_comments(block) for block in blocks("python", spanish)] == [
        without_comments(block) for block in blocks("python")
    ]
    assert [without_comments(block) for block in blocks("toml", spanish)] == [
        without_comments(block) for block in blocks("toml")
    ]


def without_comments(code: str) -> list[str]:
    return [line.partition("  #")[0].rstrip() for line in code.splitlines() if line.strip()]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_file_trains(path: Path, place: Path) -> None:
    stream = "face" if "face" in path.name or "weights" in path.name else "hands"
    words = ["pretrain", stream, "--config", str(path), "--train-dir", "crops", "--output-dir", "run", *SMALL]
    if "init_from" in path.read_text(encoding="utf-8"):
        run([*words, "--init-from", "dino_vits16.pth"])
    else:
        run([*words, *SMALL_NETWORK])
    assert (place / "run" / "checkpoint_last.pt").exists() or (place / "run" / "last.pt").exists()
