"""The example scripts run as their users run them; the examples' settings files are tested with the READMEs."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.run_files import read_metrics, read_status

ROOT = Path(__file__).parents[1]

SRUN = """#!/bin/bash
"$@" & step=$!
if [ ! -e stopped ]; then
    until [ -s run/metrics.jsonl ] || ! kill -0 $step; do sleep 0.05; done
    touch stopped
    kill -TERM $step
fi
wait $step
"""
"""A scheduler whose first time slice ends as soon as the run has logged a step."""


@pytest.fixture
def cluster(tmp_path: Path, pictures: Path, tiny: dict[str, Any]) -> dict[str, str]:
    """The environment of a job in `tmp_path`, which holds small.json; Slurm's two programs are stand-ins."""
    programs = tmp_path / "bin"
    programs.mkdir()
    scripts = {
        "srun": SRUN,
        "scontrol": '#!/bin/bash\necho "$@" >> requeued\n',
        "sltdino": f'#!/bin/bash\nexec "{sys.executable}" -m sltdino "$@"\n',
    }
    for name, text in scripts.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    settings = tiny | {"train_dir": str(pictures), "output_dir": "run", "epochs": 40}
    (tmp_path / "small.json").write_text(json.dumps(settings))
    return os.environ | {
        "PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "SLURM_JOB_ID": "17",
    }  # fmt: skip


def job(folder: Path, environment: dict[str, str]) -> int:
    script = ["bash", str(ROOT / "examples" / "slurm.sh"), "small.json"]
    return subprocess.run(script, cwd=folder, env=environment, capture_output=True, check=False).returncode


def test_the_slurm_job_requeues_itself_until_the_run_is_done(cluster: dict[str, str], tmp_path: Path) -> None:
    assert job(tmp_path, cluster) == 75
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"
    assert read_status(tmp_path / "run")["state"] == "stopped"

    assert job(tmp_path, cluster) == 0
    assert (tmp_path / "requeued").read_text() == "requeue 17\n"
    steps = [record["step"] for record in read_metrics(tmp_path / "run") if record["context"] == "train_step"]
    assert steps == list(range(1, 121))


def test_the_slurm_job_that_fails_is_not_requeued(cluster: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "small.json").write_text('{"train_dir": "nowhere", "output_dir": "run"}')
    assert job(tmp_path, cluster) == 66
    assert not (tmp_path / "requeued").exists()


def test_the_slurm_job_asks_for_its_settings_file(cluster: dict[str, str], tmp_path: Path) -> None:
    script = ["bash", str(ROOT / "examples" / "slurm.sh")]
    done = subprocess.run(script, cwd=tmp_path, env=cluster, capture_output=True, text=True, check=False)
    assert (done.returncode, "name the settings file" in done.stderr) == (1, True)
