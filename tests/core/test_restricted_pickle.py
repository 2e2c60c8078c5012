"""Files with payloads: each is shown to fire under the standard pickle, and to do nothing here."""

import argparse
import copyreg
import os
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sltdino.core import foreign_weights, restricted_pickle
from sltdino.core.restricted_pickle import Inert, StoredTensor
from sltdino.errors import CheckpointError

STATE = OrderedDict(weight=torch.arange(12.0).reshape(3, 4), half=torch.tensor([1.5, -2.0], dtype=torch.float16))


class Payload:
    """Unpickled, it calls something with something."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.reduced = (call, arguments)

    def __reduce__(self) -> Any:
        return self.reduced


def save(path: Path, content: Any, *, zipped: bool = True) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    return path


def load_tensors(content: Any) -> dict[str, torch.Tensor]:
    loaded = {key: value.load() if isinstance(value, StoredTensor) else value for key, value in content.items()}
    return {key: value for key, value in loaded.items() if isinstance(value, torch.Tensor)}


def zip_with(path: Path, data: bytes) -> Path:
    """A file of torch.save whose pickle is `data`."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", data)
        archive.writestr("x/byteorder", "little")
        archive.writestr("x/version", "3\n")
    return path


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "fired"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_a_namespace_beside_the_weights_is_passed_over_and_named(tmp_path, zipped):
    content = {"teacher": STATE, "epoch": 7, "args": argparse.Namespace(lr=1.0)}
    file = foreign_weights.read(save(tmp_path / "dino.pth", content, zipped=zipped))
    assert file.placeholders == ("argparse.Namespace",)
    assert not file.weights_only_safe
    assert file.content["epoch"] == 7
    assert type(file.content["args"]) is Inert
    tensors = load_tensors(file.content["teacher"])
    assert list(tensors) == list(STATE)
    for name, tensor in STATE.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
@pytest.mark.parametrize("depth", ["top", "in a list", "as a key's value of the weights", "inside another payload"])
def test_a_command_in_a_file_is_not_run(tmp_path, marker, zipped, depth):
    payload = Payload(os.system, f"touch {marker}")
    pickle.loads(pickle.dumps(payload))
    assert marker.exists()  # it does fire where pickle reads it
    marker.unlink()
    content = {
        "top": {"teacher": STATE, "extra": payload},
        "in a list": {"teacher": STATE, "extra": [{"deep": (payload,)}]},
        "as a key's value of the weights": {"teacher": {**STATE, "payload": payload}},
        "inside another payload": {"teacher": STATE, "extra": Payload(print, payload)},
    }[depth]
    file = foreign_weights.read(save(tmp_path / "evil.pth", content, zipped=zipped))
    assert f"{os.system.__module__}.system" in file.placeholders
    assert list(load_tensors(file.content["teacher"])) == list(STATE)
    assert not marker.exists()


def test_a_module_that_a_file_names_is_not_imported(tmp_path, marker, monkeypatch):
    (tmp_path / "named_in_a_file.py").write_text(
        f"import pathlib\npathlib.Path({str(marker)!r}).touch()\ndef f(): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = b"\x80\x02}X\x05\x00\x00\x00modelcnamed_in_a_file\nf\n)Rs."
    file = restricted_pickle.read(zip_with(tmp_path / "evil.pth", data))
    assert file.placeholders == ("named_in_a_file.f",)
    assert not marker.exists()
    pickle.loads(data)
    assert marker.exists()
    sys.modules.pop("named_in_a_file")


@pytest.mark.parametrize("value", [np.float64(0.5), np.arange(3), np.dtype("f4"), Path("x"), torch.nn.Linear(1, 1)])
def test_numpy_paths_and_modules_are_passed_over(tmp_path, value):
    file = foreign_weights.read(save(tmp_path / "c.pth", {"state_dict": STATE, "best": value}))
    assert file.placeholders
    assert torch.equal(load_tensors(file.content["state_dict"])["weight"], STATE["weight"])


BUILD_ON = {"ordered dict": b"ccollections\nOrderedDict\n", "tensor": b"ctorch._utils\n_rebuild_tensor_v2\n",
            "parameter": b"ctorch._utils\n_rebuild_parameter\n", "placeholder": b"cos\nsystem\n"}  # fmt: skip


@pytest.mark.parametrize("target", BUILD_ON.values(), ids=BUILD_ON)
def test_a_file_cannot_change_the_stand_ins(tmp_path, target):
    # BUILD with the state (None, {"load": 1, "__setstate__": 1}) would set attributes of the class itself
    data = b"\x80\x02" + target + b"N}(X\x04\x00\x00\x00loadK\x01X\x0c\x00\x00\x00__setstate__K\x01u\x86b."
    before = {kind: dict(vars(kind)) for kind in (StoredTensor, Inert, *restricted_pickle._KNOWN.values())}
    restricted_pickle.read(zip_with(tmp_path / "evil.pth", data))
    assert {kind: dict(vars(kind)) for kind in before} == before


def test_an_extension_code_is_refused_even_where_one_is_registered(tmp_path, marker):
    copyreg.add_extension("os", "system", 0xF0)
    try:
        data = (
            b"\x80\x02\x82\xf0X" + len(f"touch {marker}").to_bytes(4, "little") + f"touch {marker}".encode() + b"\x85R."
        )
        with pytest.raises(CheckpointError, match="opcode EXT1"):
            restricted_pickle.read(zip_with(tmp_path / "evil.pth", data))
        assert not marker.exists()
        pickle.loads(data)
        assert marker.exists()
    finally:
        copyreg.remove_extension("os", "system", 0xF0)


HARMFUL = {
    "a memo index that allocates 64 GB": (b"\x80\x02N0Nr\xff\xff\xff\xff.", "memo index"),
    "a byte array larger than the file": (b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".", "bytearray8"),
    "an object outside the storages": (b"\x80\x02X\x01\x00\x00\x00aQ.", "external object"),
    "an end without a beginning": (b"\x80\x02", "cannot be read"),
    "nothing but noise": (b"\xff\xfe\xfd", "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "reason"), HARMFUL.values(), ids=HARMFUL)
def test_a_pickle_built_to_do_harm_is_an_error_of_ours(tmp_path, data, reason):
    with pytest.raises(CheckpointError, match=reason):
        restricted_pickle.read(zip_with(tmp_path / "evil.pth", data))


TENSORS = {
    "larger than its numbers": ((0, (1 << 40, 4), (0, 1)), "refers to 4"),
    "behind the end": ((9, (4,), (1,)), "of the 52 bytes"),
    "of a negative size": ((0, (-4,), (1,)), "damaged"),
    "with a stride beyond 64 bits": ((0, (1,), (1 << 64,)), "damaged"),
    "with a stride too few": ((0, (2, 2), (1,)), "shorter|damaged"),
}


@pytest.mark.parametrize(("layout", "reason"), TENSORS.values(), ids=TENSORS)
def test_a_tensor_that_is_not_what_its_numbers_are_is_refused(tmp_path, layout, reason):
    path = save(tmp_path / "c.pth", {"w": torch.arange(8.0), "args": argparse.Namespace()})
    stored = foreign_weights.read(path).content["w"]
    stored.layout = (stored.layout[0], *layout)
    with pytest.raises(CheckpointError, match=reason):
        foreign_weights.plain_tensors(path, {"w": stored})


def test_a_view_is_read_as_it_was_seen(tmp_path):
    whole = torch.arange(24.0).reshape(4, 6)
    views = {"turned": whole.T, "column": whole[:, 2], "row": whole[3]}
    file = foreign_weights.read(save(tmp_path / "c.pth", {**views, "args": argparse.Namespace()}))
    assert all(torch.equal(tensor, views[name]) for name, tensor in load_tensors(file.content).items())


def test_a_parameter_is_its_numbers(tmp_path):
    content = {"w": torch.nn.Parameter(torch.arange(3.0)), "args": argparse.Namespace()}
    file = foreign_weights.read(save(tmp_path / "c.pth", content))
    assert torch.equal(load_tensors(file.content)["w"], torch.arange(3.0))
