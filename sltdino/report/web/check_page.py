"""The page of a checked data set: what is wrong, with the worst images, and how the sizes and the light are spread."""

import io
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from sltdino.data.checking.flaws import Flaw
from sltdino.data.checking.quality import BLACK_LEVEL, BLURRED_BELOW
from sltdino.data.checking.survey import Survey
from sltdino.data.decode import BadImage, decode
from sltdino.report.check_facts import channels_text, fact_rows, share
from sltdino.report.web.bars import histogram
from sltdino.report.web.html import (
    Html,
    document,
    element,
    facts,
    figure,
    gallery,
    image,
    join,
    paragraph,
    section,
    table,
)
from sltdino.report.web.settings_table import breakable

_SIDE = 96  # of a thumbnail, in pixels
_MOST_OF_A_GROUP = 6
_LONGEST_CAPTION = 200


def check_page(survey: Survey, flaws: tuple[Flaw, ...], known: dict[str, Any]) -> str:
    """The whole page. It holds at most 24 examples of each flaw, so that it stays at a few MB.

    Args:
        known: the facts, as `check_facts` gives them, with the verdict.
    """
    names = ", ".join(str(path) for path in survey.inputs)
    intro = paragraph(known["verdict"], kind="warn" if flaws else "good")
    return document(
        f"Check of {names}",
        section("findings", "Findings", _summary(flaws)),
        *(section(_anchor(flaw), flaw.name.capitalize(), *_flaw(survey, flaw)) for flaw in flaws),
        section("images", "Images", facts(_in_short(known)), *_spread(survey)),
        *_labels(known),
        section("pixels", "Pixels", paragraph(channels_text(known))),
        intro=intro,
    )


def _summary(flaws: tuple[Flaw, ...]) -> Html:
    if not flaws:
        return paragraph("Nothing was found.", kind="good")
    rows = [(element("a", flaw.name, href=f"#{_anchor(flaw)}"), share(flaw), flaw.text, flaw.remedy) for flaw in flaws]
    return table(("finding", "how many", "what it is", "what to do"), rows, caption="In order of importance")


def _in_short(known: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The facts that have no section of their own."""
    return ((title, text) for title, text in fact_rows(known) if title not in ("", "sub-folders", "pixels"))


def _anchor(flaw: Flaw) -> str:
    return f"flaw-{flaw.name.replace(' ', '-')}"


def _flaw(survey: Survey, flaw: Flaw) -> Iterator[Html]:
    yield paragraph(f"{share(flaw)} {flaw.text}.")
    yield paragraph(f"What to do: {flaw.remedy}", kind="note")
    groups = [group for group in flaw.examples if len(group) > 1]
    for group in groups:
        shown = [_captioned(survey, flaw, index) for index in group[:_MOST_OF_A_GROUP]]
        more = len(group) - len(shown)
        yield join([gallery(*shown), paragraph(f"and {more:,} more like these", kind="note") if more else Html()])
    if singles := [group[0] for group in flaw.examples if len(group) == 1]:
        yield gallery(*(_captioned(survey, flaw, index) for index in singles))
        if flaw.number > len(singles):
            yield paragraph(f"the first {len(singles)} of {flaw.number:,}", kind="note")


def _captioned(survey: Survey, flaw: Flaw, index: int) -> Html:
    name = survey.shown(index)
    caption = name if len(name) <= _LONGEST_CAPTION else f"…{name[-_LONGEST_CAPTION:]}"
    detail = _detail(survey, flaw, index)
    return figure(_thumbnail(survey, index), join([breakable(caption), detail], "\n" if detail else ""))


def _detail(survey: Survey, flaw: Flaw, index: int) -> str:
    row = survey.images[index]
    match flaw.name:
        case "broken":
            return survey.reasons[index]
        case "black":
            return f"brightest level {row['bright']} of 255"
        case "constant":
            return f"levels differ by {row['spread']} of 255"
        case "blurred":
            return f"sharpness {row['sharpness']:.3f}"
        case "small":
            return f"{row['width']} x {row['height']} px"
    return ""


def _thumbnail(survey: Survey, index: int) -> Html:
    """A small JPEG of the image, enlarged where it is smaller; words where it cannot be read."""
    try:
        picture = Image.fromarray(decode(survey.path(index), at_least=_SIDE))
    except BadImage:
        return element("p", "no picture", class_="note")
    scale = _SIDE / max(picture.size)
    width, height = (max(1, round(side * scale)) for side in picture.size)
    data = io.BytesIO()
    picture.resize((width, height), Image.Resampling.BILINEAR).save(data, "JPEG", quality=80)
    name = survey.path(index).name[-_LONGEST_CAPTION:]
    return image(data.getvalue(), alt=name, width=width, height=height, media_type="image/jpeg")


def _spread(survey: Survey) -> Iterator[Html]:
    good = survey.images[~survey.broken]
    shorter = np.minimum(good["width"], good["height"])
    light = good["mean"].mean(axis=1) * 255
    yield histogram(shorter, "Shorter side", unit="px")
    yield histogram(light, "Mean light", unit="of 255", marks={f"black is at most {BLACK_LEVEL}": BLACK_LEVEL})
    sharp = survey.images["sharpness"][survey.has_content]
    if len(sharp):
        yield histogram(sharp, "Sharpness", marks={f"blurred is below {BLURRED_BELOW}": BLURRED_BELOW})


def _labels(known: dict[str, Any]) -> Iterator[Html]:
    if labels := known["labels"]:
        most = max(labels.values())
        rows = [(name, count, f"{count / most:.0%}") for name, count in labels.items()]
        content = table(("sub-folder", "images", "of the largest"), rows, caption="Images to train on")
        yield section("labels", "Sub-folders", content)
