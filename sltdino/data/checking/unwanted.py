"""Which training images go into an exclusion list, and why."""

from collections.abc import Callable, Collection, Iterator
from typing import NamedTuple

import numpy as np

from sltdino.data.checking.survey import Survey


class Kind(NamedTuple):
    """Images that can be left out together."""

    text: str
    """For the help."""
    by_default: bool
    find: Callable[[Survey], Iterator[tuple[int, str]]]
    """Images of training or validation, and why."""


def unwanted(survey: Survey, kinds: Collection[str]) -> dict[int, str]:
    """Why each training image that is of one of the kinds is left out, in the order of the images.

    Validation images are never left out: where one is a copy of a training image, the training image goes.
    """
    found: dict[int, str] = {}
    for name, kind in KINDS.items():
        if name in kinds:
            for index, reason in kind.find(survey):
                if index < survey.num_train:
                    found.setdefault(index, reason)
    return dict(sorted(found.items()))


def _broken(survey: Survey) -> Iterator[tuple[int, str]]:
    return ((index, f"broken: {survey.reasons[index]}") for index in np.flatnonzero(survey.broken).tolist())


def _black(survey: Survey) -> Iterator[tuple[int, str]]:
    return ((index, "black") for index in np.flatnonzero(survey.black).tolist())


def _constant(survey: Survey) -> Iterator[tuple[int, str]]:
    return ((index, "constant") for index in np.flatnonzero(survey.constant).tolist())


def _copies(survey: Survey) -> Iterator[tuple[int, str]]:
    for group in survey.duplicates.same:
        yield from _all_but_one(survey, group.tolist(), "same pixels as")


def _leaks(survey: Survey) -> Iterator[tuple[int, str]]:
    for group in survey.near_groups():
        if survey.is_mixed(group):
            yield from _all_but_one(survey, group.tolist(), "nearly the same as")


def _near(survey: Survey) -> Iterator[tuple[int, str]]:
    for group in survey.near_groups():
        yield from _all_but_one(survey, group.tolist(), "nearly the same as")


def _repeats(survey: Survey) -> Iterator[tuple[int, str]]:
    return ((index, "nearly the frame before it") for index in survey.duplicates.repeats.tolist())


def _blurred(survey: Survey) -> Iterator[tuple[int, str]]:
    sharpness = survey.images["sharpness"]
    return ((index, f"blurred: sharpness {sharpness[index]:.3f}") for index in np.flatnonzero(survey.blurred).tolist())


def _all_but_one(survey: Survey, group: list[int], like: str) -> Iterator[tuple[int, str]]:
    """All but the first; all of training where there is one of validation, which comes last in a group."""
    kept = group[-1] if group[-1] >= survey.num_train else group[0]
    return ((index, f"{like} {survey.shown(kept)}") for index in group if index != kept)


KINDS = {
    "broken": Kind("cannot be read", True, _broken),
    "black": Kind("nearly every pixel is black", True, _black),
    "constant": Kind("of one colour", True, _constant),
    "copies": Kind("the pixels of another image, all but one", True, _copies),
    "leaks": Kind("nearly a validation image", False, _leaks),
    "near": Kind("nearly an image of another clip, all but one", False, _near),
    "repeats": Kind("nearly the frame before it", False, _repeats),
    "blurred": Kind("without fine detail", False, _blurred),
}
"""In this order an image gets its reason."""
