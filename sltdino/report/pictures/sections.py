"""The report's pictures: what a run was shown and what it learned, made on its own images."""

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from sltdino.core.run_files import read_evaluations, read_params, read_settings
from sltdino.data.decode import BadImage
from sltdino.data.groups import group_pattern
from sltdino.data.image_folder import ImageFolder
from sltdino.errors import RunFolderError, SltDinoError
from sltdino.report.pictures.attention import attention
from sltdino.report.pictures.crops import crops
from sltdino.report.pictures.map import feature_map
from sltdino.report.pictures.neighbours import neighbours
from sltdino.report.pictures.patches import patches
from sltdino.report.pictures.source import Source, load_source
from sltdino.report.run_images import run_images
from sltdino.report.web.html import Html, paragraph, section

_OF_FEATURES: dict[str, tuple[str, Callable[[Source], list[Html]]]] = {
    "attention": ("Attention: where it looks", attention),
    "patches": ("Patches: which parts it finds alike", patches),
    "neighbours": ("Neighbours: which images it finds alike", neighbours),
    "map": ("Map: how the images lie", feature_map),
}
"""Section anchor to its title and what draws it."""
_BY_GROUP = ("neighbours", "map")


def run_pictures(run: Path, *, group_regex: str = "", images: Callable[[], ImageFolder] | None = None) -> list[Html]:
    """Sections with pictures of a run: crops and masks, attention, patch features, neighbours, map of the features.

    The same run gives the same pictures. What cannot be shown is a section that says what is missing and what to do.
    About half a minute on one core for a ViT-S at 224 px.

    Args:
        group_regex: searched in each file name; its one capture group names the signer or video. Without one, the one
            that the run was last evaluated with; without that either, names like `signer12` and `video_f000123`.
        images: lists those that the run trains on, where the caller lists them too; `run_images` otherwise.

    Raises:
        MissingInputError: `run` is no run folder. SettingsError: `group_regex` is none.
    """
    grouping = _Grouping(group_pattern(group_regex)) if group_regex else _evaluated_by(run)
    listed = images or cache(lambda: run_images(run, read_params(run)))
    try:
        settings = read_settings(run).settings
    except RunFolderError as error:
        return [section("pictures", "Pictures", _not_shown(error))]
    sections = [section("crops", "Crops: what the student saw", *_or_why(lambda: crops(run, settings, listed())))]
    try:
        source = load_source(run, settings, training_images=listed, pattern=grouping.pattern)
    except (SltDinoError, OSError) as error:
        return [*sections, section("features", "What it learned", _not_shown(error))]
    return [
        *sections,
        *(
            section(
                anchor,
                title,
                *(grouping.notice if anchor in _BY_GROUP else ()),
                *_or_why(lambda draw=draw: draw(source)),  # type: ignore[misc]
            )
            for anchor, (title, draw) in _OF_FEATURES.items()
        ),
    ]


class _Grouping(NamedTuple):
    pattern: re.Pattern[str] | None
    """Of signers or videos in file names; None where they are told by the usual names."""
    notice: tuple[Html, ...] = ()
    """Why the pattern is not the one that it should be."""


def _evaluated_by(run: Path) -> _Grouping:
    """By the groups that the latest evaluation held apart; by nothing of its own where none did."""
    try:
        regexes = [str(found["groups"].get("regex")) for found in read_evaluations(run) if found["groups"]]
        return _Grouping(group_pattern(regexes[-1]) if regexes else None)
    except SltDinoError as error:
        text = f"Signers and videos are told by the usual names: those of the latest evaluation are not known. {error}."
        return _Grouping(None, (paragraph(text, kind="warn"),))


def _or_why(draw: Callable[[], list[Html]]) -> list[Html]:
    try:
        return draw()
    except (SltDinoError, OSError, BadImage) as error:  # an image may go while the others are read
        return [_not_shown(error)]


def _not_shown(error: Exception) -> Html:
    return paragraph(f"Not shown: {error}.", kind="warn")
