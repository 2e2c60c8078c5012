"""The checkpoints and exports of a run, as they lie on the disk: sizes, digests, and whether they are as recorded."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from sltdino.core import files
from sltdino.core.run_files import previous_name, read_artifacts, read_names, read_params
from sltdino.errors import StorageError
from sltdino.report.web.html import Html, Section, element, paragraph, section, table
from sltdino.report.web.settings_table import code

_UNITS = ("B", "kB", "MB", "GB", "TB")


class Found(NamedTuple):
    """What is to be said of one file or folder."""

    name: str
    path: Path
    size: int | None
    """None where it is gone."""
    digest: str
    """Empty for a folder, and for what is gone or cannot be read."""
    state: str


def files_section(run: Path) -> Section:
    """The section of what a run made. Reads every file whole, a gigabyte in a few seconds."""
    found = find_files(run)
    if not found:
        return section("files", "Files: checkpoints and exports", paragraph("None yet."))
    rows = [
        [item.name, code(_shown(item.path, run)), _size_text(item.size), _hash(item.digest), item.state]
        for item in found
    ]
    header = ["what", "file", "size", "SHA-256", "state"]
    return section(
        "files", "Files: checkpoints and exports", table(header, rows, caption="As they are on the disk now")
    )


def find_files(run: Path) -> list[Found]:
    """Artifacts in the order in which they were made, and checkpoints that the list does not name."""
    digests: dict[tuple[int, int], str] = {}  # the best checkpoint is often another name of the last
    names, home = read_names(run), Path(str(read_params(run).get("output_dir", "")))
    found: list[Found] = []
    listed: set[Path] = set()
    for artifact in read_artifacts(run):
        path = _where(run, Path(str(artifact.get("path", ""))), home)
        listed.add(path)
        found.append(_found(str(artifact.get("name", "")), path, artifact.get("metadata"), digests))
    for title, name in (("last", names.last_name), ("previous", previous_name(names)), ("best", names.best_name)):
        if (run / name).is_file() and run / name not in listed and (run / name).absolute() not in listed:
            found.append(_found(f"{title} checkpoint", run / name, None, digests))
    return found


def _where(run: Path, path: Path, home: Path) -> Path:
    """The path, or the file of that name in the run's folder, where a run was moved or copied to."""
    inside = run / path.name
    return inside if inside.exists() and (path.parent == home or not path.exists()) else path


def _found(name: str, path: Path, metadata: object, digests: dict[tuple[int, int], str]) -> Found:
    recorded = metadata.get("sha256") if isinstance(metadata, Mapping) else None
    try:
        if path.is_dir():
            parts = [part for part in path.rglob("*") if part.is_file()]
            return Found(name, path, sum(part.stat().st_size for part in parts), "", f"a folder of {len(parts)} files")
        if not path.is_file():
            return Found(name, path, None, "", "gone")
        stat = path.stat()
        inode = (stat.st_dev, stat.st_ino)
        digest = digests[inode] = digests.get(inode) or files.sha256(path)
    except (OSError, StorageError) as error:
        return Found(name, path, None, "", f"cannot be read: {error}")
    return Found(name, path, stat.st_size, digest, _compared(digest, recorded))


def _compared(digest: str, recorded: object) -> str:
    if not isinstance(recorded, str):
        return "present"
    return "as exported" if digest == recorded else "changed since it was exported"


def _shown(path: Path, run: Path) -> Path:
    inside = path.absolute().is_relative_to(run.absolute())
    return path.absolute().relative_to(run.absolute()) if inside else path


def _size_text(size: int | None) -> str | None:
    if size is None:
        return None
    power = next(at for at in range(len(_UNITS)) if size < 1000 ** (at + 1) or at == len(_UNITS) - 1)
    return f"{size:,} B" if not power else f"{size / 1000**power:.1f} {_UNITS[power]}"


def _hash(digest: str) -> Html | None:
    return element("code", digest, class_="hash") if digest else None
