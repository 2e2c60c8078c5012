"""Every command, file and claim of the guides that the scripts came with, as written, from a folder of the user's."""

import json
import os
import shlex
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

import sltdino
from sltdino.cli import app
from sltdino.core.run_files import load_checkpoint, read_status
from sltdino.exporting.slt_network import SltNetwork
from tools.compare_runs import first_difference

QUICK = r"""python tools/pretrain_dino_face.py \
  --train-dir data/rois/face \
  --output-dir work_dirs/dino_face \
  --epochs 100 \
  --batch-size 64 \
  --learning-rate 1e-3 \
  --algorithm dino \
  --export-backbone work_dirs/dino_face/backbone.pt"""
"""The quick example of the guide."""

TOML = """\
train_dir = ["../datasets/face_train"]
output_dir = "work_dirs/dino_face"
epochs = 50
algorithm = "ibot"

[dataset]
batch_size = 48
num_workers = 4
pin_memory = true
persistent_workers = true

[augmentation]
brightness = 0.5
gaussian_blur_prob = 0.7
mean = [0.481, 0.457, 0.408]
std = [0.268, 0.261, 0.276]

[checkpointing]
best_name = "best.pt"
last_name = "last.pt"
history_file = "training_metrics.jsonl"

[experiment]
name = "face-ibot-baseline"
tags = ["face", "ibot", "baseline"]
notes = "Entrenamiento inicial con augmentations más agresivos."
"""
"""The file of the guide."""

SMALL = (
    "--image-size 16 --patch-size 8 --local-crop-size 8 --num-local-crops 1 --vit-embed-dim 16 --vit-depth 2 "
    "--vit-num-heads 2 --out-dim 32 --head-hidden-dim 32 --log-interval 1 --device cpu"
)
"""What makes a run of seconds of it, in flags that the old scripts had."""

LATER = {  # of the guide that came later, where it is about the two scripts
    "basic": r"""python tools/pretrain_dino_face.py \
     --train-dir data/single_signer/processed/face \
     --output-dir work_dirs/dino_face \
     --epochs 100 \
     --batch-size 64 \
     --learning-rate 1e-3 \
     --algorithm dino \
     --export-backbone work_dirs/dino_face/backbone.pt""",
    "koleo": r"""python tools/pretrain_dino_face.py \
     --train-dir data/single_signer/processed/face \
     --output-dir work_dirs/dino_face \
     --koleo-weight 0.5 \
     --koleo-epsilon 1e-4""",
    "encoder": "python tools/pretrain_dino_face.py --train-dir data/single_signer/processed/face "
    "--output-dir work_dirs/dino_face --export-checkpoint --output-path work_dirs/mska/encoder.pt",
    "hands": "python tools/pretrain_dino_hands.py --train-dir data/single_signer/processed/hand_l "
    "data/single_signer/processed/hand_r --output-dir work_dirs/dino_face --algorithm ibot",
    "views": "python tools/pretrain_dino_hands.py --train-dir data/single_signer/processed/hand_l --global-crops 2 "
    "--output-dir work_dirs/dino_face --pseudo-epochs 2 --use-sinkhorn --sinkhorn-eps 0.05 --sinkhorn-iters 3",
}

LATER_TOML = """\
train_dir = ["data/single_signer/processed/face"]
output_dir = "work_dirs/dino_face"
algorithm = "ibot"
epochs = 50

[dataset]
batch_size = 48
num_workers = 4
pin_memory = true
persistent_workers = true

[augmentation]
brightness = 0.5
gaussian_blur_prob = 0.7
mean = [0.481, 0.457, 0.408]
std = [0.268, 0.261, 0.276]

[checkpointing]
last_name = "checkpoint_last.pt"
best_name = "checkpoint_best.pt"
history_file = "metrics.jsonl"

[experiment]
name = "face-ibot-baseline"
tags = ["face", "ibot"]
notes = "Primer experimento con augmentations agresivos."
"""


@pytest.fixture
def script(shared_module: ModuleType, elsewhere: Path) -> Callable[[str], None]:
    """Run a command line of a guide in this process, as the script it names does."""

    def script(command: str) -> None:
        python, name, *argv = shlex.split(command.replace("\\\n", " "))
        assert python == "python"
        stream = {"tools/pretrain_dino_face.py": "face", "tools/pretrain_dino_hands.py": "hand"}[name]
        shared_module.run(argv, default_stream=stream)

    return script


def loads_in_slt(path: Path, *, image_size: int) -> dict[str, Any]:
    """What SLT's loader does with an export; the metadata."""
    payload: dict[str, Any] = torch.load(path, weights_only=True)
    assert payload.keys() == {"model", "metadata"}
    network = SltNetwork(payload["metadata"]["backbone"])
    network.load_state_dict(payload["model"], strict=True)
    assert network.forward_features(torch.rand(2, 3, image_size, image_size)).cls_BD.isfinite().all()
    beside: dict[str, Any] = json.loads(path.with_suffix(".json").read_text("utf-8"))
    assert beside.items() >= payload["metadata"].items()
    return beside


def test_the_quick_example_runs_whole(
    typed: Callable[..., Any], elsewhere: Path, draw: Any, check_run_folder: Callable[..., dict[str, Any]]
) -> None:
    draw(elsewhere / "data/rois/face", 17)
    out, said = (process := typed(f"{QUICK} --epochs 2 --batch-size 8 {SMALL}")).communicate(timeout=100)
    assert (process.returncode, out) == (0, "work_dirs/dino_face\n"), said
    run = elsewhere / "work_dirs/dino_face"
    found = check_run_folder(run)
    assert (found["params"]["algorithm"], found["params"]["stream"]) == ("dino", "face")
    assert found["params"]["train_dirs"] == [str(Path("data/rois/face").absolute())]
    assert found["params"]["optimizer"]["learning_rate"] == 1e-3
    assert found["params"]["export_backbone"] == str(run.absolute() / "backbone.pt")
    assert "experiment" not in found["params"]
    steps = [record for record in found["records"] if record["context"] == "train_step"]
    assert [(record["step"], record["epoch"], record["epoch_step"]) for record in steps] == [
        (1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 2, 2),
    ]  # fmt: skip
    assert list(found["artifacts"]) == ["checkpoint_last", "checkpoint_best", "exported_backbone"]
    metadata = loads_in_slt(run / "backbone.pt", image_size=16)
    assert (metadata["stream"], metadata["algorithm"], metadata["epochs"], metadata["global_step"]) == (
        "face", "dino", 2, 4,
    )  # fmt: skip


def test_the_file_of_the_guide_is_the_example() -> None:
    example = Path(__file__).parents[2] / "examples" / "seed_face_ibot.toml"
    assert example.read_text("utf-8") == TOML


def test_the_file_of_the_guide_trains_and_the_command_line_wins(
    script: Callable[[str], None], elsewhere: Path, draw: Any, check_run_folder: Callable[..., dict[str, Any]]
) -> None:
    draw(elsewhere / "datasets/face_train", 100)
    (elsewhere / "project").mkdir()
    (elsewhere / "project/face.toml").write_text(TOML, encoding="utf-8")
    script(
        "python tools/pretrain_dino_face.py --config project/face.toml --epochs 1 --export-backbone out/backbone.pt "
        f"--experiment-notes 'otra nota' {SMALL}"
    )
    run = elsewhere / "project/work_dirs/dino_face"
    params = (found := check_run_folder(run))["params"]
    assert (params["algorithm"], params["epochs"], params["config_file"]) == ("ibot", 1, ["project/face.toml"])
    dataset = {key: params["dataset"][key] for key in ("batch_size", "num_workers", "pin_memory", "persistent_workers")}
    assert dataset == {"batch_size": 48, "num_workers": 4, "pin_memory": True, "persistent_workers": True}
    assert params["augmentation"]["gaussian_blur_prob"] == 0.7
    assert params["experiment"] == {
        "name": "face-ibot-baseline", "notes": "otra nota", "tags": ["face", "ibot", "baseline"]
    }  # fmt: skip
    assert {"best.pt", "last.pt", "training_metrics.jsonl"} <= {path.name for path in run.iterdir()}
    assert found["artifacts"]["exported_backbone"]["path"] == str(elsewhere / "out/backbone.pt")
    assert loads_in_slt(elsewhere / "out/backbone.pt", image_size=16)["trained_with"]["mean"] == [0.481, 0.457, 0.408]


def test_names_and_labels_of_the_command_line_are_those_of_the_run_folder(
    script: Callable[[str], None], elsewhere: Path, draw: Any, check_run_folder: Callable[..., dict[str, Any]]
) -> None:
    draw(elsewhere / "data/rois/face", 8)
    script(
        f"{QUICK} --epochs 1 --batch-size 8 {SMALL} --checkpoint-last-name last.pt --checkpoint-best-name best.pt "
        "--checkpoint-history-file history.jsonl --experiment-notes 'más agresivo' --experiment-tag face "
        "--experiment-tag ibot"
    )
    run = elsewhere / "work_dirs/dino_face"
    params = check_run_folder(run)["params"]
    assert params["checkpointing"] == {"best": "best.pt", "last": "last.pt", "history_file": "history.jsonl"}
    assert params["experiment"] == {"notes": "más agresivo", "tags": ["face", "ibot"]}


def test_an_interrupted_run_resumes_as_if_nobody_had_touched_it(
    script: Callable[[str], None],
    elsewhere: Path,
    draw: Any,
    recorder: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    draw(elsewhere / "data/rois/face", 24)
    command = f"{QUICK} --epochs 2 --batch-size 8 {SMALL}"
    script(command)
    os.rename("work_dirs/dino_face", "work_dirs/untouched")
    with monkeypatch.context() as patch:
        patch.setattr("sltdino.pretraining.progress.reporter_for_terminal", lambda **_: recorder(stop_at=4))
        patch.setattr(sltdino, "__version__", "0+checkout", raising=False)
        with pytest.raises(SystemExit) as stopped:
            script(command)
    assert stopped.value.code == 75
    said = capsys.readouterr().err.splitlines()[-2:]
    assert "SIGTERM at step 4 of 6; saved. Continue with: sltdino resume work_dirs/dino_face" in said[0]
    assert said[1] == "  or, where sltdino is not installed, run this command again with --resume auto"
    script(f"{command} --resume work_dirs/dino_face/checkpoint_last.pt")
    assert first_difference(elsewhere / "work_dirs/untouched", elsewhere / "work_dirs/dino_face") == ""
    assert load_checkpoint(elsewhere / "work_dirs/dino_face").state["steps_done"] == 6


@pytest.mark.parametrize("name", LATER)
def test_the_commands_of_the_later_guide_fill_the_same_run_folder(
    name: str,
    script: Callable[[str], None],
    elsewhere: Path,
    draw: Any,
    check_run_folder: Callable[..., dict[str, Any]],
) -> None:
    for number, stream in enumerate(("face", "hand_l", "hand_r")):
        draw(elsewhere / "data/single_signer/processed" / stream, 8, seed=number)
    script(f"{LATER[name]} --epochs 1 --batch-size 8 {SMALL}")
    run = elsewhere / "work_dirs/dino_face"
    found = check_run_folder(run)
    params = found["params"]
    assert params["stream"] == ("face" if "face.py" in LATER[name] else "hand")
    if name == "koleo":
        assert params["settings"]["loss"]["koleo_weight"] == 0.5
        assert all("loss_koleo" in record for record in found["records"] if record["context"] == "train_step")
    if name == "hands":
        assert [Path(folder).name for folder in params["train_dirs"]] == ["hand_l", "hand_r"]
    if name == "views":
        assert [record["step"] for record in found["records"] if record["context"] == "train_epoch"] == [2]
    if name == "encoder":
        assert found["artifacts"]["encoder_state_dict"]["path"] == str(Path("work_dirs/mska/encoder.pt").absolute())
        assert found["artifacts"]["encoder_state_dict"]["metadata"].keys() >= {"stream", "best_loss", "epochs"}
        payload = torch.load("work_dirs/mska/encoder.pt", weights_only=True)
        assert payload.keys() >= {"stream", "algorithm", "best_loss", "epochs", "global_step", "state_dict", "metadata"}
        SltNetwork(payload["metadata"]).load_state_dict(payload["state_dict"], strict=True)


def test_an_encoder_without_a_path_lies_in_the_run_folder(
    script: Callable[[str], None], elsewhere: Path, draw: Any
) -> None:
    draw(elsewhere / "data/rois/face", 8)
    script(f"{QUICK} --epochs 1 --batch-size 8 {SMALL} --export-checkpoint")
    assert (elsewhere / "work_dirs/dino_face/face_encoder_state.pt").is_file()


def test_the_file_of_the_later_guide_trains(
    script: Callable[[str], None], elsewhere: Path, draw: Any, check_run_folder: Callable[..., dict[str, Any]]
) -> None:
    draw(elsewhere / "data/single_signer/processed/face", 48)
    (elsewhere / "face.tml").write_text(LATER_TOML, encoding="utf-8")
    script(f"python tools/pretrain_dino_face.py --config face.tml --epochs 1 --num-workers 0 {SMALL}")
    assert check_run_folder(elsewhere / "work_dirs/dino_face")["params"]["experiment"]["tags"] == ["face", "ibot"]


def until(condition: Callable[[], Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_the_quick_example_as_written_is_stopped_after_a_step_and_goes_on_as_it_says(
    typed: Callable[..., Any], elsewhere: Path, draw: Any, check_run_folder: Callable[..., dict[str, Any]]
) -> None:
    """Steps of the full ViT-S/16 on 64 images; the two take minutes and 10 GB."""
    draw(elsewhere / "data/rois/face", 130)
    run, command = elsewhere / "work_dirs/dino_face", QUICK
    for step in (1, 2):
        process = typed(command)
        try:
            until(lambda: says_running(run, step - 1) or process.poll() is not None, seconds=120)  # noqa: B023
            process.send_signal(signal.SIGTERM)
            _, said = process.communicate(timeout=600)
        finally:
            process.kill()
        assert process.returncode == 75, said
        found = check_run_folder(run, finished=False)
        assert found["params"]["backbone"] == {
            "image_size": 224, "patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6, "mlp_ratio": 4.0
        }  # fmt: skip
        assert load_checkpoint(run).state["steps_done"] == step
        message = next(line for line in said.splitlines() if line.startswith("stopped [E-STOPPED] SIGTERM at step"))
        assert f"at step {step} of 200; saved." in message
        command = message.partition("Continue with: ")[2]
        assert command == "sltdino resume work_dirs/dino_face"
    assert app.main(["inspect", "work_dirs/dino_face"]) == 0


def says_running(run: Path, step: int) -> bool:
    status = read_status(run) if (run / "status.json").exists() else {}
    return status.get("state") == "running" and status.get("global_step") == step and "total_steps" in status
