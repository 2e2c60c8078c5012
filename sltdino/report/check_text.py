"""The page that `sltdino check` prints: the verdict, what to look at, the facts."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sltdino.core.settings_schema import printable
from sltdino.data.flaws import Flaw
from sltdino.data.survey import Survey
from sltdino.report.page import rows, short

_EXAMPLES, _EXAMPLE_WIDTH = 3, 64
_MOST_LABELS = 12


def check_text(
    survey: Survey, flaws: tuple[Flaw, ...], facts: dict[str, Any], *, num_excluded: int, exclude_list: Path | None
) -> str:
    """The page, of at most 80 columns.

    Args:
        num_excluded: images in the exclusion list.
        exclude_list: where it was written; None where it was not.
    """
    blocks = [printable(verdict(survey, flaws, num_excluded=num_excluded)), *(_flaw(survey, flaw) for flaw in flaws)]
    blocks.append(rows(fact_rows(facts)))
    if exclude_list is not None:
        command = shlex.join(["--exclude", str(exclude_list)])
        blocks.append(f"exclusion list of {num_excluded:,} images; next: sltdino pretrain ... {printable(command)}")
    return "\n\n".join(blocks)


def verdict(survey: Survey, flaws: tuple[Flaw, ...], *, num_excluded: int) -> str:
    """The whole in a sentence."""
    if not flaws:
        return f"fine: nothing was found in {len(survey.images):,} images"
    worst = ", ".join(flaw.name for flaw in flaws[:4]) + (", ..." if len(flaws) > 4 else "")
    excluded = f"{num_excluded:,} images to exclude; " if num_excluded else "nothing to exclude; "
    return f"{excluded}look at: {worst}"


def share(flaw: Flaw) -> str:
    """`12 of 1,543 (0.8%)`."""
    if not flaw.total:
        return f"{flaw.number:,}"
    return f"{flaw.number:,} of {flaw.total:,} ({flaw.number / flaw.total:.1%})"


def fact_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Titles and texts."""
    images, sizes, clips = facts["images"], facts["sizes"], facts["clips"]
    val = f", and {images['val']:,} to validate with" if facts["val_dir"] is not None else ""
    yield "images", f"{images['train']:,} to train on{val}; {facts['bytes'] / 1e6:,.0f} MB"
    yield "formats", ", ".join(f"{count:,} {name}" for name, count in facts["formats"].items())
    side = sizes["shorter_side"]
    common = ", ".join(f"{count:,} of {size}" for size, count in list(sizes["commonest"].items())[:3])
    yield "sizes", f"shorter side {side['smallest']} to {side['largest']} px, median {side['median']}; {common}"
    if labels := facts["labels"]:
        counted = ", ".join(f"{label} {count:,}" for label, count in list(labels.items())[:_MOST_LABELS])
        yield "sub-folders", f"{len(labels)}: {counted}{', ...' if len(labels) > _MOST_LABELS else ''}"
    if clips["number"]:
        alone = f"; {clips['single_images']:,} images are of none" if clips["single_images"] else ""
        yield "clips", f"{clips['number']:,} by their names, with {clips['median_frames']:.0f} frames (median){alone}"
    if facts["signers"]["train"]:
        val = f", {facts['signers']['val']:,} in validation" if facts["val_dir"] is not None else ""
        yield "signers", f"{facts['signers']['train']:,} in training{val}"
    if facts["sides"]:
        yield "sides", ", ".join(f"{count:,} {name}" for name, count in facts["sides"].items())
    yield "pixels", channels_text(facts)
    for warning in facts["warnings"]:
        yield "", warning


def channels_text(facts: dict[str, Any]) -> str:
    """Mean and std as the flags take them, and whether to use them."""
    mean, std = (" ".join(map(str, facts["channels"][key])) for key in ("mean", "std"))
    return (
        f"--aug-mean {mean} --aug-std {std} of the training images. The defaults, ImageNet's, are what SLT feeds and "
        "published weights expect: keep them unless all of it is yours; exports fold the difference in"
    )


def _flaw(survey: Survey, flaw: Flaw) -> str:
    lines = [f"{share(flaw)} {flaw.text}"]
    texts = [(flaw.name, lines[0])]
    texts += [("", example) for example in _examples(survey, flaw)]
    texts.append(("", f"-> {flaw.remedy}"))
    return rows(texts)


def _examples(survey: Survey, flaw: Flaw) -> Iterator[str]:
    for group in flaw.examples[:_EXAMPLES]:
        two = [survey.shown(index) for index in (group[0], group[-1])]
        if len(group) == 1:
            yield short(two[0], _EXAMPLE_WIDTH)
        else:
            more = f"  (+{len(group) - 2})" if len(group) > 2 else ""
            yield f"{short(two[0], _EXAMPLE_WIDTH // 2 - 4)} = {short(two[1], _EXAMPLE_WIDTH // 2 - 4)}{more}"
