"""What the two scripts share: `sltdino pretrain`, with the flags spelt as they were."""

import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path

if importlib.util.find_spec("sltdino") is None:  # not installed: take the checkout that these scripts are in
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import sltdino
from sltdino.cli.app import main_legacy

_COMMANDS = {"face": "face", "hand": "hands", "hands": "hands"}
_SAVED = (75, 130)


def run(argv: Iterable[str] | None = None, *, default_stream: str) -> None:
    """Pre-train on the crops of a stream, `face` or `hand`. `argv` is what follows the script's name.

    Raises:
        SystemExit: the run did not finish; the code says why.
    """
    if default_stream not in _COMMANDS:
        raise ValueError(f"default_stream must be one of {', '.join(_COMMANDS)} (got {default_stream!r})")
    code = main_legacy(list(sys.argv[1:] if argv is None else argv), command=_COMMANDS[default_stream])
    if code in _SAVED and sltdino.__version__ == "0+checkout":
        print("  or, where sltdino is not installed, run this command again with --resume auto", file=sys.stderr)
    if code:
        raise SystemExit(code)
