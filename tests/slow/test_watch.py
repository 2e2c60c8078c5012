"""The watch over longer runs: none that is healthy is flagged, and what takes its time is found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sltdino.core.run_files import read_metrics
from sltdino.data.synthetic import write_demo_crops
from sltdino.errors import CollapsedError
from sltdino.pretraining import resume
from sltdino.report.summary import summarize
from sltdino.training.health import COLLAPSES, STARVED

pytestmark = pytest.mark.slow

Train = Callable[..., Any]


def verdicts(run: Path) -> list[str]:
    return [record["health"] for record in read_metrics(run) if record["context"] == "train_step"]


@pytest.fixture(scope="module", params=["hands", "face"])
def drawn(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn")
    write_demo_crops(request.param, folder, count=400, seed=0)
    return folder / "train"


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("algorithm", ["dino", "dinov2"])
def test_no_healthy_run_is_flagged(train: Train, drawn: Path, algorithm: str, seed: int) -> None:
    sizes = {"image_size": 32, "vit_embed_dim": 64, "out_dim": 256, "head_hidden_dim": 128, "head_bottleneck_dim": 64}
    flags = {"epochs": 20, "batch_size": 16, "num_local_crops": 0, "log_interval": 5, "vit_drop_path": 0.0}
    run = train(images=drawn, algorithm=algorithm, seed=seed, **sizes, **flags).run_dir
    said = verdicts(run)
    assert set(said) - {"starting", "healthy", STARVED} == set()  # what the loader does is of this machine
    assert [record for record in read_metrics(run) if record["context"] == "intervention"] == []
    assert "starting" not in said[len(said) // 2 :]


def test_images_that_take_long_to_decode_starve_the_loader(train: Train, tmp_path: Path, pictures: Path) -> None:
    rng, large = np.random.default_rng(0), tmp_path / "large"
    large.mkdir()
    for number in range(8):
        Image.fromarray(rng.integers(0, 256, (400, 400, 3), np.uint8)).save(large / f"{number}.png", compress_level=1)
    slow = train("slow", images=large, epochs=14, batch_size=8).run_dir
    assert [row["name"] for row in summarize(slow)["health"]["findings"]][-1] == "starved loader"
    sizes = {"image_size": 64, "vit_embed_dim": 96, "vit_depth": 4, "batch_size": 24}
    fast = train("fast", images=pictures, epochs=14, **sizes).run_dir  # small images and much to compute
    assert "starved loader" not in [row["name"] for row in summarize(fast)["health"]["findings"]]


CENTERED = {"use_sinkhorn": False, "standardize_teacher": False, "num_local_crops": 0}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("uniform collapse", {"teacher_temp": 0.3, "teacher_temp_start": 0.3}),
        ("one-point collapse",
         {"teacher_temp": 0.01, "center_momentum": 0.9999, "learning_rate": 0.01, "koleo_weight": 0.0,
          "vit_weight_init": "xavier"}),
    ],
)  # fmt: skip
def test_a_run_that_stop_would_end_is_brought_back_by_an_intervention(
    train: Train, tmp_path: Path, name: str, flags: dict[str, Any]
) -> None:
    hands, small = tmp_path / "drawn", tmp_path / "hands"
    write_demo_crops("hands", hands, count=64, seed=0)
    small.mkdir()
    for number, file in enumerate(sorted(hands.rglob("*.jpg"))):
        Image.open(file).resize((32, 32)).save(small / f"{number}.png")
    sizes = {"epochs": 25, "pseudo_epochs": 5, "batch_size": 16, "log_interval": 2, "vit_depth": 1, "out_dim": 64,
             "head_hidden_dim": 64, "head_bottleneck_dim": 16, **CENTERED, **flags}  # fmt: skip
    with pytest.raises(CollapsedError, match=f"^{name} at step 200 of 500"):
        train("stop", images=small, on_collapse="stop", **sizes)
    run = train("adapt", images=small, **sizes).run_dir
    records = list(read_metrics(run))
    assert {record["step"] for record in records if record["context"] == "intervention"} == {200}
    assert set(verdicts(run)[-100:]) & COLLAPSES == set()  # 200 steps
    last = [record for record in records if record["context"] == "train_step"][-20:]
    assert np.mean([record["loss_gap"] for record in last]) > 0.1 * np.log(64)
    assert np.mean([record["assignment_entropy"] for record in last]) > 0.5 * np.log(64)
    assert [record["step"] for record in records if record["context"] == "train_best"][-1] > 200


@pytest.mark.timeout(600)
def test_changed_settings_give_a_collapsed_run_its_time_anew(train: Train, pictures: Path, tmp_path: Path) -> None:
    warm = {"teacher_temp": 10.0, "teacher_temp_start": 10.0}
    with pytest.raises(CollapsedError, match="uniform collapse at step 200 of 480"):
        train(images=pictures, epochs=20, pseudo_epochs=8, on_collapse="stop", **warm)
    flags = {"teacher_temp": 9.0, "teacher_temp_start": 9.0}  # which does not help it
    with pytest.raises(CollapsedError, match="at step 400"):
        resume(tmp_path / "run", flags=flags, allow_change=[*flags])
