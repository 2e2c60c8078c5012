"""Features of clips: rows and their frames, what is marked, and what an interrupted call leaves."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import torch
from PIL import Image

from sltdino.core.settings_network import VitSettings
from sltdino.data.checking.quality import CONSTANT_SPREAD
from sltdino.errors import (
    ChangeRefusedError,
    CheckpointError,
    DataError,
    RunFolderError,
    RunInUseError,
    SettingsError,
    StoppedError,
)
from sltdino.evaluation import clip_features
from sltdino.evaluation.embed import EmbedOptions, EmbedReport, embed, weights_sha256
from sltdino.evaluation.features import Pixels
from sltdino.exporting.backbone import TrainedBackbone
from sltdino.models.vit import VisionTransformer

HALF = (0.5, 0.5, 0.5)
CPU = EmbedOptions(device="cpu", batch_size=4)
Embed = Callable[..., EmbedReport]


def make_backbone(seed: int = 0, **vit: Any) -> TrainedBackbone:
    torch.manual_seed(seed)
    tiny = {"patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2, "mlp_ratio": 4.0, "registers": 0,
            "layer_scale": 0.0, "layer_norm_eps": 1e-5}  # fmt: skip
    settings = VitSettings(**{**tiny, **vit})
    network = VisionTransformer(settings, image_size=16).eval().requires_grad_(False)
    return TrainedBackbone(network, HALF, HALF, {"stream": "hand", "best_loss": float("inf")})


def draw(path: Path, seed: int, *, spread: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, spread + 1, (20, 28, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Three clips: face/v of 5 frames, hand_l/v of 3 and w of 2; frame numbers start at 10."""
    for clip, count in (("face/v", 5), ("hand_l/v", 3), ("w", 2)):
        for number in range(count):
            draw(tmp_path / "crops" / f"{clip}_f{10 + number:06d}.png", 100 * count + number)
    return tmp_path / "crops"


@pytest.fixture
def run(crops: Path, tmp_path: Path) -> Embed:
    """`run(**changes)` embeds the crops into `out`."""

    def run(backbone: TrainedBackbone | None = None, out: str = "out", **changes: Any) -> EmbedReport:
        others = {key: changes.pop(key) for key in ("on_progress", "overwrite") if key in changes}
        return embed(backbone or make_backbone(), [crops], tmp_path / out, options=CPU._replace(**changes), **others)

    return run


def load(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return dict(file)


def expected(backbone: TrainedBackbone, path: Path) -> np.ndarray[Any, Any]:
    """The CLS feature of one image, the way evaluations during training get it."""
    image = Pixels(16, backbone.mean, backbone.std).load(path)
    return backbone.network(image[None])[0].numpy()  # type: ignore[no-any-return]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.npz"))}


def test_row_t_is_frame_first_plus_t_and_gaps_are_zeros_marked_missing(run: Embed, crops: Path, tmp_path: Path) -> None:
    (crops / "face/v_f000011.png").unlink()
    (crops / "face/v_f000012.png").unlink()
    run()
    clip = load(tmp_path / "out/face/v.npz")
    assert clip["frames"].tolist() == [10, 11, 12, 13, 14]
    assert clip["status"].tolist() == [0, 1, 1, 0, 0]
    assert clip["valid"].tolist() == [True, False, False, True, True]
    assert not clip["cls"][1:3].any()
    for row in (0, 3, 4):
        want = expected(make_backbone(), crops / f"face/v_f{10 + row:06d}.png")
        np.testing.assert_allclose(clip["cls"][row], want, atol=1e-5)
    assert {name: array.dtype for name, array in clip.items()} == {
        "cls": np.float32, "frames": np.int64, "status": np.uint8, "valid": np.bool_,
    }  # fmt: skip


def test_black_and_broken_frames_are_zeros_marked_as_what_they_are(run: Embed, crops: Path, tmp_path: Path) -> None:
    Image.new("RGB", (28, 20)).save(crops / "face/v_f000010.png")
    draw(crops / "face/v_f000011.png", 1, spread=CONSTANT_SPREAD)  # a constant with JPEG's noise
    (crops / "face/v_f000012.png").write_bytes(b"no picture")
    draw(crops / "face/v_f000013.png", 1, spread=40)  # dark, but something
    report = run()
    clip = load(tmp_path / "out/face/v.npz")
    assert clip["status"].tolist() == [2, 2, 3, 0, 0]
    assert not clip["cls"][:3].any()
    assert report.counts == (3, 10, 10, 0, 2, 1)
    [bad] = report.bad_images
    assert bad == {"path": str(crops / "face/v_f000012.png"), "reason": "not a PNG, JPEG, BMP or TIFF file"}


def test_a_clip_of_black_frames_only_keeps_its_rows(run: Embed, crops: Path, tmp_path: Path) -> None:
    for number in (10, 11):
        Image.new("RGB", (28, 20), "grey").save(crops / f"w_f0000{number}.png")
    run()
    clip = load(tmp_path / "out/w.npz")
    assert clip["status"].tolist() == [2, 2]
    assert clip["cls"].shape == (2, 16)
    assert not clip["cls"].any()


def test_a_constant_colour_is_black_and_a_gradient_is_not() -> None:
    red = np.zeros((4, 4, 3), dtype=np.uint8)
    red[..., 0] = 200
    assert clip_features.is_black(red)
    red[0, 0, 2] = CONSTANT_SPREAD + 1
    assert not clip_features.is_black(red)


@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (3, 2), (100, 1)])
def test_a_feature_does_not_depend_on_the_batch_or_the_threads(
    run: Embed, crops: Path, tmp_path: Path, batch_size: int, num_workers: int
) -> None:
    run(batch_size=batch_size, num_workers=num_workers)
    for file, folder, count in (("face/v", "face", 5), ("hand_l/v", "hand_l", 3), ("w", ".", 2)):
        clip = load(tmp_path / f"out/{file}.npz")
        want = [
            expected(make_backbone(), crops / folder / f"{Path(file).name}_f{10 + i:06d}.png") for i in range(count)
        ]
        np.testing.assert_allclose(clip["cls"], np.stack(want), atol=1e-5)


def test_the_mean_is_that_of_the_patch_tokens_and_both_have_their_names(
    run: Embed, crops: Path, tmp_path: Path
) -> None:
    run(tokens="both")
    run(tokens="mean", out="mean")
    backbone = make_backbone()
    image = Pixels(16, HALF, HALF).load(crops / "w_f000011.png")
    patches = backbone.network.forward_features(image[None]).patches_BND[0].numpy()
    both = load(tmp_path / "out/w.npz")
    assert list(both) == ["cls", "mean", "frames", "status", "valid"]
    np.testing.assert_allclose(both["mean"][1], patches.sum(axis=0) / 4, atol=1e-5)
    mean = load(tmp_path / "mean/w.npz")
    assert list(mean) == ["mean", "frames", "status", "valid"]
    np.testing.assert_array_equal(mean["mean"], both["mean"])


def test_float16_is_the_rounded_float32(run: Embed, tmp_path: Path) -> None:
    run()
    run(dtype="float16", out="half")
    half = load(tmp_path / "half/face/v.npz")["cls"]
    assert half.dtype == np.float16
    np.testing.assert_array_equal(half, load(tmp_path / "out/face/v.npz")["cls"].astype(np.float16))


def test_safetensors_hold_the_same_arrays(run: Embed, crops: Path, tmp_path: Path) -> None:
    draw(crops / "odd/手.png", 5)
    run(tokens="both")
    run(tokens="both", format="safetensors", out="safe")
    for file in ("face/v", "hand_l/v", "w", "odd"):
        want = load(tmp_path / f"out/{file}.npz")
        want.pop("names", None)
        got = safetensors.numpy.load_file(tmp_path / f"safe/{file}.safetensors")
        assert got.keys() == want.keys()
        for name in want:
            np.testing.assert_array_equal(got[name], want[name])
            assert got[name].dtype == want[name].dtype
    with safetensors.safe_open(tmp_path / "safe/odd.safetensors", framework="numpy") as file:
        assert json.loads(file.metadata()["names"]) == ["手.png"]


def test_images_without_frame_numbers_are_rows_in_natural_order_with_their_names(run: Embed, crops: Path) -> None:
    for name, seed in (("img10.png", 1), ("img9.png", 2)):
        draw(crops / "3" / name, seed)
    run()
    clip = load(crops.parent / "out/3.npz")
    assert clip["names"].tolist() == ["img9.png", "img10.png"]
    assert clip["frames"].tolist() == [0, 1]
    np.testing.assert_allclose(clip["cls"][1], expected(make_backbone(), crops / "3/img10.png"), atol=1e-5)


def test_hostile_names_are_embedded_and_indexed(run: Embed, crops: Path, tmp_path: Path) -> None:
    names = ["手話 ü_f1.png", "a\nb_f1.png", "\x1b[2J_f1.png", os.fsdecode(b"\xff_f1.png"), "<b>&_f1.png"]
    for seed, name in enumerate(names):
        draw(crops / name, seed)
    run()
    files = {clip["file"] for clip in json.loads((tmp_path / "out/index.json").read_bytes())["clips"]}
    assert {"手話 ü.npz", "a\nb.npz", "\x1b[2J.npz", "\\xff.npz", "<b>&.npz"} <= files
    assert load(tmp_path / "out" / os.fsdecode(b"\xff.npz"))["status"].tolist() == [0]
    assert run().clips_before == 8


def test_the_index_is_strict_json_with_digest_counts_and_settings(run: Embed, crops: Path, tmp_path: Path) -> None:
    (crops / "face/v_f000011.png").unlink()
    backbone = make_backbone()
    report = run(backbone)
    assert report.index_file == tmp_path / "out/index.json"

    def refuse(token: str) -> None:
        raise AssertionError(token)

    index = json.loads(report.index_file.read_text(), parse_constant=refuse)
    assert index["complete"] is True
    assert index["backbone"] == {"metadata": {"stream": "hand", "best_loss": None}}
    settings = index["settings"]
    assert settings["weights_sha256"] == weights_sha256(backbone.network)
    assert (settings["image_size"], settings["mean"], settings["tokens"]) == (16, [0.5, 0.5, 0.5], "cls")
    assert settings["black_spread"] == 8
    [face] = [clip for clip in index["clips"] if clip["file"] == "face/v.npz"]
    counts = {key: face[key] for key in ("first_frame", "frames", "images", "missing", "black", "bad")}
    assert counts == {"first_frame": 10, "frames": 5, "images": 4, "missing": 1, "black": 0, "bad": 0}
    assert face["sha256"] == sha256((tmp_path / "out/face/v.npz").read_bytes()).hexdigest()


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_embed
from sltdino.evaluation.embed import embed
def die(done, total):
    if done == 6:
        os.kill(os.getpid(), signal.SIGKILL)
embed(test_embed.make_backbone(), [Path(sys.argv[2])], Path(sys.argv[3]),
      options=test_embed.CPU._replace(batch_size=1), on_progress=die)
"""


def test_the_call_after_a_kill_keeps_what_was_finished_and_makes_the_rest(
    run: Embed, crops: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", _KILLED, str(Path(__file__).parent), str(crops), str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (out / "index.json").exists()
    (finished,) = out.rglob("*.npz")  # w has 2 images and is met first, face/v has 5
    before = finished.stat()
    leftover = finished.parent / ".sltdino-0123456789abcdef.tmp"
    leftover.write_bytes(b"half a clip")

    report = run()
    assert (report.clips_before, report.counts.clips) == (1, 3)
    assert (finished.stat().st_ino, finished.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert not leftover.exists()
    run(out="whole", batch_size=1)
    assert contents(out).keys() == contents(tmp_path / "whole").keys()
    for file in contents(out):
        np.testing.assert_allclose(load(out / file)["cls"], load(tmp_path / "whole" / file)["cls"], atol=1e-5)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_leaves_the_finished_clips_and_an_index_of_them(
    run: Embed, tmp_path: Path, number: int, code: int
) -> None:
    with pytest.raises(StoppedError, match="1 of 3 clips are finished and stand") as stopped:
        run(batch_size=2, on_progress=lambda done, total: os.kill(os.getpid(), number))
    assert stopped.value.exit_code == code
    index = json.loads((tmp_path / "out/index.json").read_text())
    assert (index["complete"], [clip["file"] for clip in index["clips"]]) == (False, ["w.npz"])
    report = run(batch_size=2)
    assert report.clips_before == 1
    assert json.loads(report.index_file.read_text())["complete"] is True


def test_a_finished_call_again_writes_nothing_but_the_index(run: Embed, tmp_path: Path) -> None:
    run()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")}
    seen: list[int] = []
    report = run(on_progress=lambda done, total: seen.append(done))
    assert report.clips_before == report.counts.clips == 3
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.npz")} == before
    assert seen == []


def test_new_changed_and_damaged_clips_are_made_and_no_others(run: Embed, crops: Path, tmp_path: Path) -> None:
    run()
    draw(crops / "new_f000001.png", 7)
    draw(crops / "face/v_f000012.png", 8)
    damaged = tmp_path / "out/w.npz"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"!")
    untouched = (tmp_path / "out/hand_l/v.npz").stat().st_mtime_ns
    assert run().clips_before == 1
    assert (tmp_path / "out/hand_l/v.npz").stat().st_mtime_ns == untouched
    want = expected(make_backbone(), crops / "face/v_f000012.png")
    np.testing.assert_allclose(load(tmp_path / "out/face/v.npz")["cls"][2], want, atol=1e-5)
    assert load(damaged)["cls"].shape == (2, 16)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"tokens": "both"}, 'tokens: "cls" there, "both" now'),
        ({"dtype": "float16"}, 'dtype: "float32" there, "float16" now'),
        ({"image_size": 24}, "image_size: 16 there, 24 now"),
        ({"format": "safetensors"}, 'format: "npz" there, "safetensors" now'),
        ({"backbone": 1}, "weights_sha256: "),
    ],
)
def test_other_settings_in_the_same_folder_are_refused_with_both_values(
    run: Embed, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    run()
    before = contents(tmp_path / "out")
    if "backbone" in change:
        change = {"backbone": make_backbone(seed=1)}
    with pytest.raises(ChangeRefusedError) as refused:
        run(**change)
    first, *lines = str(refused.value).split("\n")
    assert first.endswith("or replace them with --overwrite")
    assert len(lines) == 1
    assert lines[0].startswith(says)
    assert contents(tmp_path / "out") == before


def test_weights_that_are_read_with_other_heads_are_another_backbone(run: Embed) -> None:
    run()
    with pytest.raises(ChangeRefusedError, match="num_heads: 2 there, 4 now"):
        run(make_backbone(num_heads=4))


def test_another_input_folder_does_not_overwrite_clips_of_the_same_name(crops: Path, tmp_path: Path) -> None:
    embed(make_backbone(), [crops / "face"], tmp_path / "out", options=CPU)
    with pytest.raises(ChangeRefusedError, match=r"holds features of another input folder; (?s:.*)\nroot: "):
        embed(make_backbone(), [crops / "hand_l"], tmp_path / "out", options=CPU)


def test_overwrite_replaces_all_of_an_earlier_call(run: Embed, crops: Path, tmp_path: Path) -> None:
    run()
    shutil.rmtree(crops / "hand_l")
    run(tokens="mean", overwrite=True)
    assert contents(tmp_path / "out").keys() == {"face/v.npz", "w.npz"}
    assert next(iter(load(tmp_path / "out/w.npz"))) == "mean"


def test_overwrite_removes_nothing_outside_the_folder(run: Embed, tmp_path: Path) -> None:
    run()
    (tmp_path / "precious.npz").write_bytes(b"mine")
    record = tmp_path / "out/.sltdino-embed.jsonl"
    row = json.loads(record.read_text().splitlines()[1])
    with record.open("a") as file:
        file.write(json.dumps(row | {"file": "../precious.npz"}) + "\n")
        file.write(json.dumps(row | {"file": str(tmp_path / "precious.npz")}) + "\n")
    run(overwrite=True)
    assert (tmp_path / "precious.npz").read_bytes() == b"mine"


def test_overwrite_does_not_replace_what_no_embed_wrote(run: Embed, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name in ("w.npz", "index.json"):
        (tmp_path / "out" / name).write_bytes(b"mine")
    with pytest.raises(RunFolderError, match=r"holds files, such as index\.json, but no features"):
        run(overwrite=True)
    assert contents(tmp_path / "out").keys() == {"w.npz"}
    assert {path.read_bytes() for path in (tmp_path / "out").iterdir()} == {b"mine"}


def test_a_folder_with_files_of_others_or_a_run_is_refused(run: Embed, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    with pytest.raises(RunFolderError, match=r"holds files, such as thesis\.txt, but no features"):
        run()
    (tmp_path / "out/params.json").write_text("{}")
    with pytest.raises(RunFolderError, match="holds a run"):
        run(overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["params.json", "thesis.txt"]


def test_two_calls_at_once_do_not_share_a_folder(run: Embed) -> None:
    def again(done: int, total: int) -> None:
        with pytest.raises(RunInUseError, match=r"--output: .*in use by pid"):
            run()

    assert run(on_progress=again).counts.clips == 3


def test_counts_that_would_do_nothing_are_refused(run: Embed, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="0 images a batch"):
        run(batch_size=0)
    assert not (tmp_path / "out").exists()


def test_an_output_inside_an_input_is_refused(crops: Path) -> None:
    with pytest.raises(SettingsError, match="lies inside the input"):
        embed(make_backbone(), [crops], crops / "features", options=CPU)
    assert not (crops / "features").exists()


def test_images_of_which_none_can_be_read_are_an_error(run: Embed, crops: Path) -> None:
    for path in crops.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match=r"not one of 10 images can be read; .*w_f000010\.png: empty file"):
        run()


def test_features_that_are_not_finite_are_refused(run: Embed, tmp_path: Path) -> None:
    backbone = make_backbone()
    backbone.network.norm.bias[3] = float("nan")
    with pytest.raises(CheckpointError, match="not finite; its weights are damaged"):
        run(backbone)
    backbone.network.norm.bias[3] = 1e5
    with pytest.raises(CheckpointError, match="do not fit float16; use --dtype float32"):
        run(backbone, out="half", dtype="float16")
    assert contents(tmp_path / "out") == contents(tmp_path / "half") == {}


def test_without_the_package_of_the_format_nothing_starts(
    run: Embed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(SettingsError, match=r"pip install 'sltdino\[safetensors\]'"):
        run(format="safetensors")
    assert not (tmp_path / "out").exists()


def test_a_size_that_the_patches_do_not_divide_is_refused(run: Embed) -> None:
    with pytest.raises(SettingsError, match=r"--image-size: 20 is not a multiple of the backbone's patch size 8"):
        run(image_size=20)


def test_the_callers_network_stays_as_it_is(run: Embed) -> None:
    backbone = make_backbone()
    backbone.network.train()
    run(backbone)
    assert backbone.network.training
