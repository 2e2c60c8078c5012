"""The labelled folders that `quality.py` trains and judges on: folds inside `train`, or `train` and `val` whole."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sltdino.core.files import os_errors
from sltdino.core.folders import new_folder
from sltdino.core.settings_presets import STREAMS
from sltdino.core.settings_schema import printable
from sltdino.data.image_folder import scan
from sltdino.data.synthetic import DEMOS, UNFINISHED, write_demo_crops
from sltdino.errors import SettingsError
from sltdino.evaluation.cross_validation import folds
from sltdino.evaluation.labelled import Side, labelled_images

FINAL = "final"
"""The part that trains on all of `train` and is judged on `val`."""
_SYNTHETIC = "synthetic:"
_NUM_DRAWN = 1200
_SIGNERS = "^(signer[0-9]+)"  # of the drawings' names


class Source(NamedTuple):
    """A data set with `train/<label>/` and `val/<label>/`."""

    name: str
    folder: Path
    stream: str
    group_regex: str
    """What is never torn apart; empty where every image stands for itself."""
    fingerprint: str
    """Of the images in `train`."""


class Part(NamedTuple):
    """What a run learns from, without labels, and what it is judged on."""

    name: str
    """`1/3`, a fold, or `final`."""
    train: Path
    val: Path
    num_train: int
    num_val: int


def sources_of(texts: Sequence[str], *, stream: str, group_regex: str, work: Path) -> list[Source]:
    """The data sets that are named: folders, or `synthetic:hands[:COUNT]`, which is drawn below `work`.

    Raises:
        SettingsError: there is none of that name, or two have one name. SltDinoError: as `scan`, `write_demo_crops`.
    """
    if stream not in STREAMS:
        raise SettingsError(f"--stream: must be one of {', '.join(STREAMS)} (got {stream!r})")
    sources: list[Source] = []
    for text in texts:
        drawn = text.startswith(_SYNTHETIC)
        folder = _drawn(text, work) if drawn else Path(text).absolute()
        name = text if drawn else folder.resolve().name
        if name in {source.name for source in sources}:
            raise SettingsError(f"--data: two are called {name}, and the results go by that name; rename a folder")
        fingerprint = scan([folder / "train"]).fingerprint
        own_stream, regex = (text.split(":")[1], _SIGNERS) if drawn else (stream, group_regex)
        sources.append(Source(name, folder, own_stream, regex, fingerprint))
    return sources


def _drawn(text: str, work: Path) -> Path:
    stream, _, count = text.removeprefix(_SYNTHETIC).partition(":")
    if stream not in DEMOS or not re.fullmatch(r"[0-9]*", count, re.ASCII):
        names = " or ".join(_SYNTHETIC + name for name in DEMOS)
        raise SettingsError(f"--data: {text!r} is none of ours; write {names}, with :COUNT for so many images")
    folder = work / "drawn" / f"{stream}-{count or _NUM_DRAWN}"
    if not folder.exists() or (folder / UNFINISHED).exists():
        write_demo_crops(stream, folder, count=int(count or _NUM_DRAWN), seed=0)
    return folder


def fold_parts(source: Source, number: int, work: Path) -> list[Part]:
    """The folds of a data set's `train`, as folders of links below `work`; `val` is not looked at.

    No group, or without groups no image, stands on both sides of a fold. The folds are the same in every study.

    Raises:
        SettingsError: there are fewer groups than folds. SltDinoError: as `labelled_images`, `new_folder`.
    """
    root = source.folder / "train"
    data = labelled_images((), [root], group_regex=source.group_regex)
    for note in data.notes:
        print(printable(f"{source.name}: {note}"), file=sys.stderr)
    side = data.val
    if len(found := folds(side, number)) < number:
        what = f"groups of {source.group_regex!r}" if source.group_regex else "images"
        raise SettingsError(f"--folds: {number} folds need as many {what}, and {root} has {len(found)}")
    parts = []
    for at, fold in enumerate(found, start=1):
        place = work / "folds" / re.sub(r"[^\w.-]", "-", source.name) / f"{at}-of-{number}"
        with os_errors(place):
            place.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(place) as folder:
            for name, rows in (("train", fold.train), ("val", fold.val)):
                _link(side.take(rows.tolist()), root, folder / name)
        parts.append(Part(f"{at}/{number}", place / "train", place / "val", len(fold.train), len(fold.val)))
    return parts


def final_part(source: Source) -> Part:
    """All of `train` against `val`.

    Raises:
        SltDinoError: as `labelled_images`.
    """
    train, val = source.folder / "train", source.folder / "val"
    found = labelled_images([train], [val], group_regex=source.group_regex)
    return Part(FINAL, train, val, len(scan([train])), len(found.val.paths))


def _link(side: Side, root: Path, folder: Path) -> None:
    """Links to the images, under the names that they have below `root`."""
    for path in side.paths:
        link = folder / path.relative_to(root)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.realpath(path))
