import argparse
import json
import pickle
import struct
import warnings
import zipfile

import pytest
import torch

from sltdino.core import foreign_weights
from sltdino.errors import CheckpointError, MissingInputError

STATE = {"weight": torch.arange(6.0).reshape(2, 3)}


def nested() -> torch.Tensor:
    with warnings.catch_warnings():  # torch calls them a prototype
        warnings.simplefilter("ignore")
        return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
@pytest.mark.parametrize("name", ["a.pth", "a.bin", "a"])
def test_a_file_of_plain_values_is_read_as_weights_only_whatever_its_name(tmp_path, zipped, name):
    torch.save(STATE, tmp_path / name, _use_new_zipfile_serialization=zipped)
    file = foreign_weights.read(tmp_path / name)
    assert file.weights_only_safe
    assert torch.equal(file.content["weight"], STATE["weight"])


def test_safetensors_are_read_with_their_header(tmp_path):
    from safetensors.torch import save_file

    save_file(STATE, tmp_path / "a.safetensors", metadata={"format": "pt", "backbone": json.dumps({"num_heads": 3})})
    (tmp_path / "a.safetensors").rename(tmp_path / "without-suffix")
    file = foreign_weights.read(tmp_path / "without-suffix")
    assert torch.equal(file.content["weight"], STATE["weight"])
    assert file.header == {"format": "pt", "backbone": {"num_heads": 3}}


def test_without_the_package_safetensors_name_the_command_that_installs_it(tmp_path, monkeypatch):
    import sys

    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", 2) + b"{}")
    monkeypatch.setitem(sys.modules, "safetensors", None)
    with pytest.raises(CheckpointError, match=r"pip install 'sltdino\[safetensors\]'"):
        foreign_weights.read(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [struct.pack("<Q", 1 << 60) + b"{}", b"", struct.pack("<Q", 2) + b"{", b"\0" * 600])
def test_damaged_safetensors_are_an_error_of_ours(tmp_path, content):
    (tmp_path / "a.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"a\.safetensors: damaged"):
        foreign_weights.read(tmp_path / "a.safetensors")


def test_a_folder_gives_its_weights_and_both_descriptions(tmp_path):
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text('{"hidden_size": 3}')
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5, 0.5]}')
    file = foreign_weights.read(tmp_path)
    assert (file.config, file.preprocessor) == ({"hidden_size": 3}, {"image_mean": [0.5, 0.5, 0.5]})
    assert file.path == tmp_path / "pytorch_model.bin"


def test_a_compressed_record_is_refused(tmp_path):
    torch.save({"w": torch.zeros(100_000), "args": argparse.Namespace()}, tmp_path / "a.pth")
    with (
        zipfile.ZipFile(tmp_path / "a.pth") as old,
        zipfile.ZipFile(tmp_path / "b.pth", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    with pytest.raises(CheckpointError, match="compressed"):
        foreign_weights.read(tmp_path / "b.pth")


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "before-1.6"])
def test_a_file_cut_short_is_an_error_at_every_length(tmp_path, zipped):
    torch.save(
        {"w": torch.zeros(100), "args": argparse.Namespace()}, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped
    )
    whole = (tmp_path / "a.pth").read_bytes()
    for length in [*range(1, len(whole) - 1, 41), len(whole) - 1]:
        (tmp_path / "b.pth").write_bytes(whole[:length])
        with pytest.raises(CheckpointError):
            foreign_weights.read(tmp_path / "b.pth")


OTHER = {
    b"\x1f\x8b\x08 gzip": "gzip",
    b"PK\x05\x06" + b"\0" * 18: "without weights|PyTorch cannot read",
    b"<html>404</html>": "neither",
    b"\0" * 1000: "zeroed",
    b"a" * 257 + b"ustar": "tar archive",
    b"\x08\x0a\x12\x07pytorch\x1a\x05": "ONNX model, which onnxruntime reads and sltdino does not.; name a run",
    b'{"file": "b.pt", "verification": {}}': r"tells about an export; the weights are in b\.pt",
    b'{"algorithm": "dino"}': "tells about a run",
    b"[1, 2]": "it is JSON",
    b"{not JSON": "it is text",
    b"\x89PNG\r\n\x1a\n": "PNG picture",
    b"": "empty",
}


@pytest.mark.parametrize(("content", "reason"), OTHER.items(), ids=OTHER.values())
def test_another_kind_of_file_is_named(tmp_path, content, reason):
    (tmp_path / "a.pth").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason):
        foreign_weights.read(tmp_path / "a.pth")


def test_an_onnx_file_of_any_writer_is_known_by_its_content(tmp_path):
    onnx = pytest.importorskip("onnx")
    graph = onnx.helper.make_graph([], "g", [], [])
    for number, fields in enumerate(({}, {"producer_name": "me"}, {"doc_string": "text"}, {"model_version": 3})):
        path = tmp_path / f"{number}.pt"
        path.write_bytes(onnx.helper.make_model(graph, **fields).SerializeToString())
        with pytest.raises(CheckpointError, match="it is an ONNX model"):
            foreign_weights.read(path)


def test_nothing_is_said_to_the_terminal_about_a_pickle_of_others(tmp_path, recwarn):
    for protocol in range(2, 6):
        (tmp_path / "a.pth").write_bytes(pickle.dumps({"w": print}, protocol=protocol))
        with pytest.raises(CheckpointError):
            foreign_weights.read(tmp_path / "a.pth")
    assert [str(warning.message) for warning in recwarn] == []


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingInputError, match="no such file"):
        foreign_weights.read(tmp_path / "a.pth")
    with pytest.raises(MissingInputError, match="neither"):
        foreign_weights.read(tmp_path)


@pytest.mark.parametrize(
    ("tensor", "reason"),
    [
        (torch.zeros(1).expand(1 << 40), "larger than its data"),
        (torch.tensor([1.0, float("nan")]), "not finite"),
        (torch.zeros(2, 2).to_sparse(), "dense"),
        (torch.zeros(2, dtype=torch.complex64), "real numbers"),
        (torch.empty(2, device="meta"), "dense"),
        (nested(), "dense"),
    ],
)
def test_a_tensor_that_is_no_weight_is_refused_by_name(tmp_path, tensor, reason):
    (tmp_path / "a.pth").write_bytes(b"x" * 100)
    with pytest.raises(CheckpointError, match=f"blocks.0.*{reason}"):
        foreign_weights.plain_tensors(tmp_path / "a.pth", {"blocks.0.w": tensor})


@pytest.mark.parametrize("beside", [{}, {"args": argparse.Namespace()}], ids=["torch", "restricted"])
def test_many_names_for_the_same_numbers_are_not_unfolded(tmp_path, beside):
    numbers = torch.ones(20_000)
    torch.save({"model": {f"w{i}": numbers for i in range(40)}, **beside}, tmp_path / "a.pth")
    model = foreign_weights.read(tmp_path / "a.pth").content["model"]
    with pytest.raises(CheckpointError, match="over 8 times as large as the file"):
        foreign_weights.plain_tensors(tmp_path / "a.pth", model)
    two_names = dict(list(model.items())[:2])
    assert foreign_weights.plain_tensors(tmp_path / "a.pth", two_names).keys() == two_names.keys()


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000])
@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json"])
def test_a_description_that_is_no_json_object_is_bad_data_and_named(tmp_path, name, content):
    torch.save(STATE, tmp_path / "pytorch_model.bin")
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=rf"{name}: not a JSON object") as caught:
        foreign_weights.read(tmp_path)
    assert caught.value.exit_code == 65
