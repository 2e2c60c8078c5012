"""Logs of records that are whole or not there."""

import json
import os
import time

import pytest

from sltdino.core import json_lines
from sltdino.core.json_lines import JsonLines, JsonLinesReader
from sltdino.errors import CannotCreateError, StorageError


def test_each_record_is_one_system_call(tmp_path, monkeypatch):
    log = JsonLines(tmp_path / "m.jsonl")
    writes = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: (writes.append(data), write(descriptor, data))[1])
    for step in range(3):
        log.append({"step": step})
    log.close()
    assert b"".join(writes) == (tmp_path / "m.jsonl").read_bytes()
    assert [json.loads(line) for line in writes] == [{"step": step} for step in range(3)]


def test_a_record_that_did_not_fit_leaves_no_part_of_itself(tmp_path, monkeypatch):
    log = JsonLines(tmp_path / "m.jsonl")
    log.append({"step": 0})
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
    with pytest.raises(StorageError, match="disk is full"):
        log.append({"step": 1})
    monkeypatch.undo()
    log.append({"step": 2})
    assert list(JsonLinesReader(tmp_path / "m.jsonl")) == [{"step": 0}, {"step": 2}]


def test_a_torn_last_line_is_counted_by_readers_and_cut_by_the_next_writer(tmp_path):
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step": 0}\n[1]\n{"step": 1}\n{"step": 2, "lo')
    reader = JsonLinesReader(path)
    assert list(reader) == [{"step": 0}, {"step": 1}]
    assert reader.unreadable == 2
    log = JsonLines(path)
    assert log.torn_bytes == len(b'{"step": 2, "lo')
    log.append({"step": 2})
    assert path.read_bytes() == b'{"step": 0}\n[1]\n{"step": 1}\n{"step": 2}\n'


def test_a_line_without_end_is_one_unreadable_record_and_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(json_lines, "LARGEST_LINE", 64)
    path = tmp_path / "m.jsonl"
    path.write_bytes(b"[" * 1000 + b'\n{"step": 1}\n')
    reader = JsonLinesReader(path)
    assert list(reader) == [{"step": 1}]
    assert reader.unreadable == 1


def test_truncation_cuts_whole_records_and_counts_them(tmp_path):
    path = tmp_path / "m.jsonl"
    log = JsonLines(path)
    offsets = []
    for step in range(2000):
        offsets.append(log.offset() if step % 500 == 0 else -1)
        log.append({"step": step, "text": "x" * 100})
    assert log.truncate(offsets[1500]) == 500
    assert log.truncate(offsets[500] + 3) == 1000  # not at a line's end: back to the one before
    assert [record["step"] for record in JsonLinesReader(path)] == list(range(500))
    assert log.truncate(10**9) == 0
    assert log.truncate(0) == 500
    log.append({"step": 0})
    assert list(JsonLinesReader(path)) == [{"step": 0}]


def test_a_pipe_in_the_place_of_a_log_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "m.jsonl")
    start = time.monotonic()
    with pytest.raises(CannotCreateError, match="not a plain file"):
        JsonLines(tmp_path / "m.jsonl")
    assert time.monotonic() - start < 1
