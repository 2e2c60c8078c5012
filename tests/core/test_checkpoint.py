import errno
import os
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch

from sltdino.core import checkpoint
from sltdino.errors import CheckpointError, DivergedError, MissingInputError, StorageError

STATE = {
    "progress": {"epoch": 1, "global_step": 7},
    "student": OrderedDict(weight=torch.arange(3000, dtype=torch.float32).reshape(30, 100), count=torch.tensor(3)),
    "optimizer": {"state": {0: {"step": torch.tensor(7.0)}}, "param_groups": [{"betas": (0.9, 0.999), "lr": 1e-3}]},
    "best": None,
    "deterministic": True,
    "notes": "señas",
}


@pytest.fixture
def saved(tmp_path):
    checkpoint.save(tmp_path / "c.pt", STATE)
    return tmp_path / "c.pt"


def _record(path: Path, ending: str) -> tuple[int, int]:
    """Where a record's bytes lie in the file."""
    with zipfile.ZipFile(path) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith(ending))
        with archive.open(info):
            pass
    with path.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
    return info.header_offset + 30 + name + extra, info.file_size


def _overwrite(path: Path, offset: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_what_was_saved_is_loaded_with_tuples_as_lists_and_the_schema_added(saved):
    state = checkpoint.load(saved)
    assert torch.equal(state["student"]["weight"], STATE["student"]["weight"])
    assert type(state["student"]) is dict
    assert state["optimizer"]["param_groups"] == [{"betas": [0.9, 0.999], "lr": 1e-3}]
    assert state["optimizer"]["state"][0]["step"] == 7
    assert (state["format"], state["schema_version"]) == ("sltdino-checkpoint", 1)
    assert {key: state[key] for key in ("progress", "best", "deterministic", "notes")} == {
        key: STATE[key] for key in ("progress", "best", "deterministic", "notes")
    }


def test_adam_continues_bit_for_bit_from_a_loaded_state(tmp_path):
    def model_and_optimizer():
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 4)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def steps(model, optimizer, count):
        for _ in range(count):
            optimizer.zero_grad()
            model(torch.ones(2, 4)).square().sum().backward()
            optimizer.step()

    whole = model_and_optimizer()
    steps(*whole, 6)
    first = model_and_optimizer()
    steps(*first, 3)
    checkpoint.save(tmp_path / "c.pt", {"model": first[0].state_dict(), "optimizer": first[1].state_dict()})
    state = checkpoint.load(tmp_path / "c.pt")
    second = model_and_optimizer()
    second[0].load_state_dict(state["model"])
    second[1].load_state_dict(state["optimizer"])
    steps(*second, 3)
    assert torch.equal(second[0].weight, whole[0].weight)


def test_a_small_view_does_not_drag_its_storage_into_the_file(tmp_path):
    checkpoint.save(tmp_path / "c.pt", {"row": torch.zeros(1000, 1000)[3], "column": torch.zeros(1000, 1000)[:, 3]})
    assert (tmp_path / "c.pt").stat().st_size < 20_000


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64])
def test_a_tensor_that_is_not_finite_is_refused_by_name_and_the_old_checkpoint_stands(saved, bad, dtype):
    before = saved.read_bytes()
    weight = torch.zeros(5, dtype=dtype)
    weight[3] = bad
    with pytest.raises(DivergedError, match=r"student\.blocks\[1\]\.weight is not finite") as caught:
        checkpoint.save(saved, {"student": {"blocks": [torch.ones(1), {"weight": weight}]}})
    assert caught.value.exit_code == 3
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


class Odd(float):
    pass


@pytest.mark.parametrize(
    ("value", "kind"),
    [({1}, "set"), (Path("x"), "Path"), (Odd(1), "Odd"), (b"x", "bytes"), (torch.float32, "dtype"), (print, "builtin")],
)
def test_what_is_not_data_is_refused_with_its_key_path(tmp_path, value, kind):
    with pytest.raises(TypeError, match=rf"a\.b\[0\] is a .*{kind}"):
        checkpoint.save(tmp_path / "c.pt", {"a": {"b": [value]}})
    with pytest.raises(TypeError, match="a has the key"):
        checkpoint.save(tmp_path / "c.pt", {"a": {(1, 2): 3}})
    assert list(tmp_path.iterdir()) == []


def test_sparse_tensors_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"a is a torch\.sparse_coo tensor"):
        checkpoint.save(tmp_path / "c.pt", {"a": torch.eye(3).to_sparse()})


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.9999])
def test_a_truncated_checkpoint_is_refused(saved, kept):
    size = saved.stat().st_size
    os.truncate(saved, int(size * kept))
    with pytest.raises(CheckpointError, match=r"c\.pt: cut short") as caught:
        checkpoint.load(saved)
    assert (caught.value.code, caught.value.exit_code) == ("E-CKPT-CORRUPT", 65)


def test_a_flipped_bit_that_torch_accepts_is_refused_with_the_record_named(saved):
    offset, size = _record(saved, "data/0")
    assert size == 12_000
    _overwrite(saved, offset + 6000, bytes([saved.read_bytes()[offset + 6000] ^ 0x10]))
    accepted = torch.load(saved, weights_only=True)["student"]["weight"]
    assert not torch.equal(accepted, STATE["student"]["weight"])  # the fault fired and torch said nothing
    with pytest.raises(CheckpointError, match=r"record \S*data/0 fails its CRC") as caught:
        checkpoint.load(saved)
    assert caught.value.code == "E-CKPT-CORRUPT"


def test_a_zeroed_page_that_torch_accepts_is_refused(saved):
    offset, _ = _record(saved, "data/0")
    page = -(-offset // 4096) * 4096
    _overwrite(saved, page, bytes(4096))
    assert not torch.equal(torch.load(saved, weights_only=True)["student"]["weight"], STATE["student"]["weight"])
    with pytest.raises(CheckpointError, match="fails its CRC"):
        checkpoint.load(saved)


def test_a_file_of_zeros_is_refused_as_damaged(saved):
    saved.write_bytes(bytes(saved.stat().st_size))
    with pytest.raises(CheckpointError, match="cut short or overwritten"):
        checkpoint.load(saved)


def test_no_single_damaged_byte_gives_other_values_or_an_untyped_error(saved):
    """Some bytes (padding, time stamps) mean nothing; then the load must be equal to the original."""
    whole = saved.read_bytes()
    rng = random.Random(0)
    headers = [*range(200), *range(len(whole) - 1200, len(whole))]
    for position in rng.sample(headers, 250) + rng.sample(range(len(whole)), 100):
        _overwrite(saved, position, bytes([whole[position] ^ (1 << rng.randrange(8))]))
        try:
            state = checkpoint.load(saved)
        except CheckpointError:
            pass
        else:
            assert torch.equal(state["student"]["weight"], STATE["student"]["weight"])
            assert state["progress"] == STATE["progress"]
        _overwrite(saved, position, whole[position : position + 1])


def test_what_does_not_read_back_is_never_published(saved, monkeypatch):
    before = saved.read_bytes()
    fsync = os.fsync
    fired = []

    def lying_disk(descriptor):
        if size := os.fstat(descriptor).st_size > 12_000:
            os.pwrite(descriptor, b"\xff" * 64, 8000)
            fired.append(size)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", lying_disk)
    with pytest.raises(StorageError, match="fails its CRC right after writing"):
        checkpoint.save(saved, STATE)
    assert fired
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_full_disk_inside_torch_save_is_named_as_one(saved, monkeypatch):
    before = saved.read_bytes()
    fdopen = os.fdopen
    fired = []

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

        def write(self, data):
            if self.file.tell() > 5000:
                fired.append(len(data))
                raise OSError(errno.ENOSPC, "No space left on device")
            return self.file.write(data)

    monkeypatch.setattr(os, "fdopen", lambda *args: Full(fdopen(*args)))
    with pytest.raises(StorageError, match="the disk is full") as caught:
        checkpoint.save(saved, STATE)
    assert fired
    assert caught.value.exit_code == 74
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_a_real_limit_inside_torch_save_is_a_storage_error(saved):
    before = saved.read_bytes()
    code = f"""
import resource, sys, torch
from pathlib import Path
from sltdino.core import checkpoint
from sltdino.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    checkpoint.save(Path({str(saved)!r}), {{"w": torch.ones(100_000)}})
except StorageError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "larger than a file may be" in done.stdout
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]


def test_compressed_records_are_refused_before_they_are_unpacked(saved, tmp_path):
    bomb = tmp_path / "bomb.pt"
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
        new.writestr("archive/data/99", bytes(50_000_000))
    assert bomb.stat().st_size < 200_000
    with pytest.raises(CheckpointError, match="is compressed") as caught:
        checkpoint.load(bomb)
    assert caught.value.code == "E-CKPT-COMPRESSED"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_record_that_appears_twice_is_refused(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        archive.writestr(archive.infolist()[0].filename, b"other")
    with pytest.raises(CheckpointError, match="repeat or overlap"):
        checkpoint.load(saved)


def test_records_that_share_bytes_are_refused(saved):
    with zipfile.ZipFile(saved, "a") as archive:
        big = max(archive.infolist(), key=lambda info: info.file_size)
        for number in range(100, 200):
            twin = zipfile.ZipInfo(f"archive/data/{number}")
            twin.file_size = twin.compress_size = big.file_size
            twin.CRC, twin.header_offset = big.CRC, big.header_offset
            archive.filelist.append(twin)
        archive._didModify = True
    with pytest.raises(CheckpointError, match="repeat or overlap"):
        checkpoint.load(saved)


class Payload:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return os.system, (f"touch {self.target}",)


def test_a_pickle_payload_is_not_executed_in_any_container(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trap = tmp_path / "executed"
    state = {"format": checkpoint.FORMAT, "schema_version": 1, "student": Payload(trap)}
    torch.save(state, tmp_path / "zip.pt")
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(state))
    for name, code in (("zip.pt", "E-CKPT-UNSAFE"), ("old.pt", "E-CKPT-FOREIGN"), ("bare.pt", "E-CKPT-FOREIGN")):
        with pytest.raises(CheckpointError) as caught:
            checkpoint.load(tmp_path / name)
        assert caught.value.code == code
    assert not trap.exists()
    torch.load(tmp_path / "zip.pt", weights_only=False)
    assert trap.exists()  # it was a live one


def test_a_checkpoint_of_a_newer_schema_is_refused_with_the_version_needed(tmp_path):
    torch.save({"format": checkpoint.FORMAT, "schema_version": 7}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="reads schema 7") as caught:
        checkpoint.load(tmp_path / "c.pt")
    assert caught.value.code == "E-CKPT-VERSION"


@pytest.mark.parametrize("version", [None, True, "1", 1.0, 0, -3])
def test_a_schema_version_that_is_no_positive_integer_is_refused(tmp_path, version):
    torch.save({"format": checkpoint.FORMAT, "schema_version": version}, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="its schema version is"):
        checkpoint.load(tmp_path / "c.pt")


def test_older_schemas_are_migrated_one_by_one(saved, monkeypatch):
    monkeypatch.setattr(checkpoint, "SCHEMA_VERSION", 3)
    monkeypatch.setitem(checkpoint.MIGRATIONS, 1, lambda state: state | {"path": [1]})
    monkeypatch.setitem(checkpoint.MIGRATIONS, 2, lambda state: state | {"path": [*state["path"], 2]})
    state = checkpoint.load(saved)
    assert (state["path"], state["schema_version"]) == ([1, 2], 3)


def test_every_older_schema_has_its_migration():
    assert set(checkpoint.MIGRATIONS) == set(range(1, checkpoint.SCHEMA_VERSION))


def test_a_checkpoint_of_the_old_slt_scripts_is_recognised_and_refused_with_the_reason(tmp_path):
    old = {key: {} for key in ("student", "teacher", "head", "teacher_head", "optimizer", "metadata")}
    torch.save(old, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="not resumable: its heads differ") as caught:
        checkpoint.load(tmp_path / "c.pt")
    assert caught.value.code == "E-CKPT-LEGACY"


@pytest.mark.parametrize("content", [{"model": {}}, torch.ones(3), [1], {"format": "other", "schema_version": 1}])
def test_anything_else_is_not_an_sltdino_checkpoint(tmp_path, content):
    torch.save(content, tmp_path / "c.pt")
    with pytest.raises(CheckpointError, match="not an sltdino checkpoint"):
        checkpoint.load(tmp_path / "c.pt")


def test_files_that_are_no_torch_files_are_not_checkpoints(tmp_path):
    path = tmp_path / "c.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(CheckpointError, match="not an sltdino checkpoint"):
        checkpoint.load(path)
    for content, kind in (
        (b"\x89PNG" + bytes(100), "neither"),
        (b"\xff\xd8\xff\xe0", "a JPEG picture"),
        (b'{"state": "done"}', "JSON"),
        (struct.pack("<Q", 2) + b"{}", "a safetensors file"),
    ):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"not an sltdino checkpoint .it is {kind}"):
            checkpoint.load(path)
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(CheckpointError, match="cut short or overwritten, 104 bytes are left; use another copy of it"):
        checkpoint.load(path)


def test_missing_files_folders_and_pipes_are_named_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "none.pt", tmp_path, tmp_path / "pipe"):
        with pytest.raises(MissingInputError):
            checkpoint.load(path)


def test_a_storage_larger_than_its_record_is_refused(tmp_path, saved):
    """A pickle that claims more elements than the record holds would make torch read beyond it."""
    forged = tmp_path / "forged.pt"
    torch.save({"format": checkpoint.FORMAT, "schema_version": 1, "w": torch.arange(4.0)}, saved)
    with zipfile.ZipFile(saved) as old, zipfile.ZipFile(forged, "w") as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith("data.pkl"):
                assert data.count(b"K\x04tq") == 1
                data = data.replace(b"K\x04tq", b"M\x00\xfftq").replace(b"K\x04\x85", b"M\x00\xff\x85")
            new.writestr(info.filename, data)
    with pytest.raises(CheckpointError, match="record size"):
        checkpoint.load(forged)
