"""The example program that puts exports into an encoder, as a user starts it."""

import os
import subprocess
import sys
from pathlib import Path

from sltdino.exporting.formats import export

ROOT = Path(__file__).parents[2]


def test_the_example_loads_two_exports_and_encodes_a_clip(finished: Path, tmp_path: Path) -> None:
    export(finished, format="slt", out=tmp_path / "face.pt")
    export(finished, format="slt", out=tmp_path / "hands.pt")
    command = [sys.executable, "-W", "error", ROOT / "examples" / "load_into_slt.py", tmp_path / "face.pt"]
    command += [tmp_path / "hands.pt", "--image-size", "32", "--frames", "4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert (result.returncode, result.stderr) == (0, "")
    shapes = [line.partition(":")[2].strip() for line in result.stdout.splitlines()]
    assert shapes == ["[2, 4, 3, 32, 32]", "[2, 16]", "[2, 4, 256]"]
