"""The real wandb, offline; the fast tests have one that writes down what it is asked."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sltdino.core.run_files import read_metrics

pytestmark = pytest.mark.slow


def wandb_rows(run: Path) -> list[dict[str, Any]]:
    """The history in a file of wandb's: records of protobuf in LevelDB's log format."""
    from wandb.proto.wandb_internal_pb2 import Record

    [file] = run.glob("wandb/offline-run-*/run-*.wandb")
    content, at, whole, rows = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, at)
        whole += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            items = Record.FromString(whole).history.item
            rows.append({"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in items})
            whole = b""
    return [row for row in rows if row]


def test_the_real_wandb_takes_a_run_offline_and_says_nothing_on_the_terminal(
    pictures: Path, tiny: dict[str, Any], tmp_path: Path
) -> None:
    run, script = tmp_path / "run", "import sys; from sltdino.cli.app import main; sys.exit(main(sys.argv[1:]))"
    sets = [word for key, value in tiny.items() for word in ("--set", f"{key}={value}")]
    done = subprocess.run(
        [sys.executable, "-c", script, "pretrain", "hands", "--train-dir", str(pictures), "--output-dir", str(run),
         "--track", "wandb", "--quiet", *sets],
        env={**os.environ, "WANDB_MODE": "offline", "HOME": str(tmp_path)}, capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{run}\n")
    rows = wandb_rows(run)
    losses = {row["_step"]: row["train/loss"] for row in rows if "train/loss" in row}
    records = [record for record in read_metrics(run) if record["context"] == "train_step"]
    assert losses == {record["step"]: record["loss"] for record in records}
    [crops] = [row["crops/path"] for row in rows if row["_step"] == 1]
    [picture] = run.glob(f"wandb/offline-run-*/files/{crops}")
    assert picture.read_bytes().startswith(b"\x89PNG")
