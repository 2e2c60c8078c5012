"""A log that grows is read line by line, and never twice."""

import json
from pathlib import Path

from sltdino.core import json_tail
from sltdino.core.json_lines import record_of, skim
from sltdino.core.json_tail import LinesTail


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def test_each_look_has_what_was_added_since_the_last(tmp_path: Path) -> None:
    tail = LinesTail(tmp_path / "m.jsonl")
    assert list(tail.read()) == []
    append(tail.path, b"one\ntwo\n")
    assert list(tail.read()) == [b"one\n", b"two\n"]
    assert list(tail.read()) == []
    append(tail.path, b"three\n")
    assert list(tail.read()) == [b"three\n"]


def test_a_line_without_its_end_waits_for_it(tmp_path: Path) -> None:
    tail = LinesTail(tmp_path / "m.jsonl")
    append(tail.path, b"one\ntw")
    assert (list(tail.read()), tail.is_torn) == ([b"one\n"], True)
    append(tail.path, b"o\n")
    assert (list(tail.read()), tail.is_torn) == ([b"two\n"], False)


def test_a_line_that_is_too_long_is_counted_and_passed_over(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(json_tail, "LARGEST_LINE", 8)
    tail = LinesTail(tmp_path / "m.jsonl")
    append(tail.path, b"x" * 100 + b"\none\n" + b"y" * 50)
    assert (list(tail.read()), tail.too_long, tail.is_torn) == ([b"one\n"], 1, True)
    append(tail.path, b"y\ntwo\n")
    assert (list(tail.read()), tail.too_long, tail.is_torn) == ([b"two\n"], 2, False)
    assert not tail.was_cut()


def test_a_cut_is_found_also_when_the_file_has_grown_beyond_it(tmp_path: Path) -> None:
    tail = LinesTail(tmp_path / "m.jsonl")
    append(tail.path, b'{"step": 1}\n{"step": 2}\n')
    list(tail.read())
    append(tail.path, b'{"step": 3}\n')
    assert not tail.was_cut()
    tail.path.write_bytes(b'{"step": 1}\n{"step": 9}\n{"step": 10}\n')
    assert tail.was_cut()
    tail.path.write_bytes(b'{"step": 1}\n')
    assert tail.was_cut()
    tail.path.unlink()
    assert tail.was_cut()


def test_skimming_is_as_strict_as_reading() -> None:
    good = b'{"step": 1, "x": 0.5, "y": NaN, "z": [1e3, "t"], "n": null}\n'
    assert record_of(good) == json.loads(good, parse_constant=lambda _: None)
    assert skim(good) == {"step": 1, "x": "0.5", "y": None, "z": ["1e3", "t"], "n": None}
    damaged = [good[:-1], good[:-2] + b"\n", good.replace(b"0.5", b"0.5.1"), good[:-1] + b"{}\n", b"\xff" + good,
               b"[1]\n", b"\n", b"[" * 5000 + b"\n"]  # fmt: skip
    assert [(record_of(line), skim(line)) for line in damaged] == [(None, None)] * len(damaged)
