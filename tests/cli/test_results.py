"""Results as JSON, where the terminal knows few letters."""

import json
import os
import subprocess
import sys


def test_json_is_json_in_every_encoding() -> None:
    name = "añ三\u202e"
    code = f"from sltdino.cli.results import print_json; print_json({{'name': {name!r}}})"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii:backslashreplace"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert done.stdout.isascii()
    assert json.loads(done.stdout) == {"name": name}
