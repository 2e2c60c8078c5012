"""Check a data set: survey it, say what is wrong, write the exclusion list and the page."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sltdino.core.files import check_writable, refuse_what_is_no_file
from sltdino.core.settings_schema import did_you_mean
from sltdino.data.checking.flaws import Flaw, find_flaws
from sltdino.data.checking.survey import Survey, survey
from sltdino.data.checking.unwanted import KINDS, unwanted
from sltdino.data.exclusions import read_exclusions, refuse_foreign_file, write_exclusions
from sltdino.data.groups import group_pattern
from sltdino.data.image_folder import common_folder
from sltdino.errors import SettingsError
from sltdino.report.check_facts import check_facts
from sltdino.report.web.check_page import check_page
from sltdino.report.web.page_file import check_place, write_page


class CheckOptions(NamedTuple):
    """What to look for, and what to write."""

    val_dir: Path | None = None
    group_regex: str = ""
    """Searched in each file name; its one capture group names the signer."""
    drop: tuple[str, ...] = ()
    """Kinds of images that go into the list beside the usual ones; see `unwanted.KINDS`."""
    keep: tuple[str, ...] = ()
    """Usual kinds that do not."""
    exclude_list: Path | None = None
    """By default `exclude-<parent>-<folder>.txt` in the current folder, if there is something to exclude."""
    html: Path | None = None
    overwrite: bool = False
    """The page may replace a file that is none."""
    num_workers: int = 1


class CheckReport(NamedTuple):
    """What was found, and what was written."""

    survey: Survey
    flaws: tuple[Flaw, ...]
    facts: dict[str, Any]
    """All of it as plain values."""


_DEFAULTS = CheckOptions()


def check_data(
    folders: Sequence[Path],
    *,
    options: CheckOptions = _DEFAULTS,
    on_progress: Callable[[str, int, int], object] = lambda stage, done, total: None,
) -> CheckReport:
    """Look at every image in `folders`; write the exclusion list, and the page where one is asked for.

    Nothing is written among the images, and nothing at all before everything was looked at.

    Args:
        on_progress: called with `images` or `comparisons`, how many are done, and all of them.

    Raises:
        SettingsError: a kind that there is not, a file that would lie among the images; as `group_pattern`.
        SltDinoError: as `survey`.
        RunFolderError: a foreign file has the list's name. CannotCreateError: one has the page's, or a file cannot be
            written; StorageError: writing failed.
    """
    kinds = _kinds(options.drop, options.keep)
    pattern = group_pattern(options.group_regex) if options.group_regex else None
    inputs = [*folders, *([] if options.val_dir is None else [options.val_dir])]
    folder = common_folder(folders)
    listed_in = options.exclude_list or Path("-".join(("exclude", *folder.parts[-2:])).replace("/", "") + ".txt")
    for flag, path in (("--exclude-list", options.exclude_list), ("--html", options.html)):
        if path is not None:
            _refuse_place(flag, path, inputs)
    if options.html is not None:
        check_place(options.html, (), overwrite=options.overwrite)
    has_place = _input_around(listed_in, inputs) is None
    if has_place:
        refuse_foreign_file(listed_in, folder)
    found = survey(
        folders, val_dir=options.val_dir, group=pattern, workers=options.num_workers,
        on_progress=on_progress,
    )  # fmt: skip
    flaws, reasons = find_flaws(found), unwanted(found, kinds)
    is_written = has_place and bool(reasons or options.exclude_list or listed_in.exists())
    facts = {
        "verdict": _verdict(found, flaws, num_excluded=len(reasons)),
        **check_facts(found, flaws),
        "excluded": {"number": len(reasons), "kinds": kinds, "list": listed_in if is_written else None,
                     "taken_off": 0},
        "html": options.html,
    }  # fmt: skip
    if is_written:
        earlier = set(read_exclusions(listed_in).names) if listed_in.exists() else set()
        entries = ((found.path(index), reason) for index, reason in reasons.items())
        comment = f"{len(reasons):,} of {found.num_train:,} images: {', '.join(kinds)}"
        write_exclusions(listed_in, folder, entries, comment=comment)
        facts["excluded"]["taken_off"] = len(earlier - set(read_exclusions(listed_in).names))
    if options.html is not None:
        write_page(options.html, check_page(found, flaws, facts))
    return CheckReport(found, flaws, facts)


def _verdict(found: Survey, flaws: tuple[Flaw, ...], *, num_excluded: int) -> str:
    """The whole in a sentence."""
    if not flaws:
        return f"fine: nothing was found in {len(found.images):,} images"
    names = ", ".join(f"{flaw.name} ({flaw.number:,})" for flaw in flaws)
    excluded = f"{num_excluded:,} images to exclude" if num_excluded else "nothing to exclude"
    return f"{excluded}; look at: {names}"


def _kinds(drop: Collection[str], keep: Collection[str]) -> list[str]:
    problems = []
    for flag, names, by_default in (("--drop", drop, False), ("--keep", keep, True)):
        known = [name for name, kind in KINDS.items() if kind.by_default == by_default]
        problems += [
            f"{flag}: {name!r} is not one of {', '.join(known)}{did_you_mean(name, known)}"
            for name in names
            if name not in KINDS
        ]
    if problems:
        raise SettingsError(*problems)
    return [name for name, kind in KINDS.items() if (kind.by_default or name in drop) and name not in keep]


def _input_around(path: Path, inputs: Sequence[Path]) -> Path | None:
    place = path.resolve()
    return next((folder for folder in inputs if place.is_relative_to(folder.resolve())), None)


def _refuse_place(flag: str, path: Path, inputs: Sequence[Path]) -> None:
    if (folder := _input_around(path, inputs)) is not None:
        raise SettingsError(f"{flag}: {path} lies among the images of {folder}; choose another place")
    refuse_what_is_no_file(path)
    if not path.absolute().parent.is_dir():
        raise SettingsError(f"{flag}: there is no folder {path.parent}; make it first")
    check_writable(path.absolute().parent)
