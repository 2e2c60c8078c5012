"""The example programs run, as a user starts them."""

import os
import subprocess
import sys
from pathlib import Path

from sltdino.exporting.formats import export

ROOT = Path(__file__).parents[1]


def run_example(name: str, *arguments: object) -> str:
    command = [sys.executable, "-W", "error", ROOT / "examples" / name, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_exports_go_into_an_encoder(finished: Path, tmp_path: Path) -> None:
    export(finished, format="slt", out=tmp_path / "face.pt")
    export(finished, format="slt", out=tmp_path / "hands.pt")
    files = (tmp_path / "face.pt", tmp_path / "hands.pt")
    output = run_example("load_into_slt.py", *files, "--image-size", 32, "--frames", 4)
    assert [line.partition(":")[2].strip() for line in output.splitlines()] == [
        "[2, 4, 3, 32, 32]",
        "[2, 16]",
        "[2, 4, 256]",
    ]
