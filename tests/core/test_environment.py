import getpass
import json
import platform
import socket
import subprocess

import pytest
import torch

from sltdino.core.environment import environment, git_revision, version


def test_the_environment_is_plain_data_with_the_versions_that_matter():
    found = environment()
    assert found["torch"] == torch.__version__
    assert found["python"] == platform.python_version()
    assert found["torch_threads"] == torch.get_num_threads()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert all(type(value) in (str, int) for value in found.values())


def test_nothing_in_it_names_the_host_or_the_folder():
    text = json.dumps(environment())
    assert str(__file__).rpartition("/tests")[0] not in text
    if len(socket.gethostname()) > 4:
        assert socket.gethostname() not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text


def test_a_distribution_that_is_not_installed_has_no_version():
    assert version("no-such-distribution-here") == ""


def _git(folder, *arguments):
    identity = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_the_revision_is_the_commit_and_tells_changed_files(tmp_path):
    try:
        _git(tmp_path, "init", "-q")
    except FileNotFoundError:
        pytest.skip("no git here")
    (tmp_path / "a").write_text("1")
    _git(tmp_path, "add", "a")
    _git(tmp_path, "commit", "-q", "-m", "a")
    commit = _git(tmp_path, "rev-parse", "HEAD")
    assert git_revision(tmp_path) == commit
    (tmp_path / "a").write_text("2")
    assert git_revision(tmp_path) == commit + "-dirty"


def test_without_git_or_a_working_copy_the_revision_is_empty(tmp_path, monkeypatch):
    assert git_revision(tmp_path) == ""
    (tmp_path / ".git").mkdir()
    assert git_revision(tmp_path) == ""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_revision(tmp_path) == ""
