"""Building blocks of an offline HTML page: markup that is safe by its type, and a document that loads nothing."""

import base64
import html
import re
from collections.abc import Iterable, Sequence
from importlib.resources import files

from sltdino.core.settings_schema import printable

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
"""What a browser may do with the page: show it. No script, no request, whatever a name in it says."""
GENERATOR = "sltdino"
"""What our pages say they were made with; by it, a page of ours is known again."""

_VOID = {"br", "hr", "img", "input", "link", "meta"}
_NUMBER = re.compile(r"[-+−]?\d[\d,.]*(e[-+]?\d+)?\s?(%|‰|s|ms|min|h|px|[kMGT]?i?B)?(\s\[[-+.,\d ]+\])?", re.ASCII)
_NOTHING = "–"


class Html(str):
    """Markup that goes into a page as it is. Everything else is text, and escaped."""

    __slots__ = ()


NOTHING = Html()
"""No markup at all."""


class Section(Html):
    """A section with what the navigation needs to know of it."""

    anchor: str
    heading: str


def escape(text: object) -> Html:
    """Text as markup that shows it: no tag, attribute or control character of it works. `Html` stays as it is.

    Line breaks stay; other control, direction and surrogate characters are spelt out.
    """
    if isinstance(text, Html):
        return text
    return Html(html.escape("\n".join(map(printable, str(text).split("\n")))))


def join(parts: Iterable[object], separator: str = "") -> Html:
    """All the parts, each escaped, in a row."""
    return Html(escape(separator).join(map(escape, parts)))


def element(tag: str, /, *content: object, **attributes: object) -> Html:
    """`<tag attributes>content</tag>`, content and attribute values escaped.

    `class_` and `for_` lose their underscore, others turn it into a hyphen (`aria_label`). An attribute that is None
    or False is left out; True gives the bare name.
    """
    given = "".join(_attribute(key, value) for key, value in attributes.items() if value is not None)
    if tag in _VOID:
        assert not content, f"<{tag}> has no content"
        return Html(f"<{tag}{given}>")
    return Html(f"<{tag}{given}>{join(content)}</{tag}>")


def image(data: bytes, *, alt: str, width: int, height: int, media_type: str = "image/png") -> Html:
    """A picture that is part of the page. `width` and `height`, in CSS pixels, keep its place while it loads."""
    source = f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"
    return element("img", src=source, alt=alt, width=width, height=height)


def figure(content: Html, caption: object) -> Html:
    """A picture or chart with its caption."""
    return element("figure", content, element("figcaption", caption))


def gallery(*figures: Html) -> Html:
    """Small figures side by side, as many in a row as there is room for."""
    return element("div", *figures, class_="gallery")


def table(header: Sequence[object], rows: Sequence[Sequence[object]], *, caption: str) -> Html:
    """A table that scrolls in a box of its own where it is wider than the page; its first column names the rows.

    Cells are escaped unless they are `Html`. None is a dash; columns of numbers, and of texts like `46.2% [40, 52]`,
    stand right.
    """
    kinds = [_kind([row[at] for row in rows]) if at else None for at in range(len(header))]
    names = [element("th", name, scope="col", class_=kind) for name, kind in zip(header, kinds, strict=True)]
    body = [element("tr", element("th", show(row[0]), scope="row"), *map(_cell, row[1:], kinds[1:])) for row in rows]
    content = element(
        "table", element("caption", caption), element("thead", element("tr", *names)), element("tbody", *body)
    )
    return scrollable(content, label=caption)


def scrollable(content: Html, *, label: str) -> Html:
    """A box that scrolls sideways on its own, also by keyboard, so that the page never does."""
    return element("div", content, class_="scroll", role="region", aria_label=label, tabindex=0)


def facts(pairs: Iterable[tuple[object, object]]) -> Html:
    """Names and values as a list of terms. A value that is None is left out with its name."""
    items = [
        element("div", element("dt", name), element("dd", show(value))) for name, value in pairs if value is not None
    ]
    return element("dl", *items, class_="facts")


def details(summary: object, *content: Html, printed: bool = False) -> Html:
    """What most readers skip, behind a line that opens it, without script; `printed`: on paper it is open."""
    return element("details", element("summary", summary), *content, class_="printed" if printed else None)


def paragraph(*content: object, kind: str | None = None) -> Html:
    """A paragraph; `kind` is one of the style's: `note`, `good`, `warn`, `bad`."""
    return element("p", *content, class_=kind)


def subsection(title: object, *content: Html) -> Html:
    """A part of a section, under a heading of the third level."""
    return join([element("h3", title), *content])


def section(anchor: str, title: str, *content: Html) -> Section:
    """A part of the page under a heading of the second level, which the navigation links to by what comes before `:`.

    Args:
        anchor: its id, unique in the page: a letter, then letters, digits, `-` and `_`.
    """
    assert re.fullmatch(r"[A-Za-z][\w-]*", anchor, re.ASCII), anchor
    heading = element("h2", title, id=f"{anchor}-title")
    made = Section(element("section", heading, *content, id=anchor, aria_labelledby=f"{anchor}-title"))
    made.anchor, made.heading = anchor, title
    return made


def document(title: str, *sections: Html, intro: Html = NOTHING, footer: Html = NOTHING) -> str:
    """The whole page: style, landmarks, navigation, then `sections` in order. It needs nothing but itself.

    Args:
        intro: what stands between the title and the navigation.
        footer: what stands at the end, after what made the page.
    """
    linked = [part for part in sections if isinstance(part, Section)]
    assert len({part.anchor for part in linked}) == len(linked), "two sections share an anchor"
    links = [element("li", element("a", part.heading.partition(":")[0], href=f"#{part.anchor}")) for part in linked]
    body = element(
        "body",
        element("a", "Skip to content", href="#main", class_="skip"),
        element("header", element("h1", title), intro),
        element("nav", element("ul", *links), aria_label="Sections of this page"),
        element("main", *sections, id="main", tabindex=-1),
        element("footer", footer, paragraph(f"Made by {GENERATOR}. This page needs no network.")),
    )
    return f"<!doctype html>\n{element('html', _head(title), body, lang='en')}\n"


def is_own_page(start: bytes) -> bool:
    """Whether a file that begins so is a page of ours."""
    return start.startswith(b"<!doctype html>") and _OWN.encode() in start


def show(value: object) -> Html:
    """A value as a reader wants it: thousands set apart, four digits of a fraction, a dash for none."""
    if value is None or value == "":
        return escape(_NOTHING)
    if isinstance(value, bool):
        return escape("yes" if value else "no")
    if isinstance(value, int):
        return escape(f"{value:,}")
    return escape(f"{value:.4g}" if isinstance(value, float) else value)


def _head(title: str) -> Html:
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        _OWN,
        element("title", title),
        element("link", rel="icon", href="data:,"),  # else a browser asks the server for one
        element("style", Html(files(__package__).joinpath("page.css").read_text("utf-8"))),
    )


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    if isinstance(value, bool):
        return f" {name}" if value else ""
    return f' {name}="{escape(value)}"'


def _cell(value: object, kind: str | None) -> Html:
    shown = show(value)
    if kind == "number":  # `46.2% [40, 52]` may break before its interval, not within
        shown = Html(shown.replace(", ", ",&nbsp;"))
    return element("td", shown, class_=kind)


def _kind(values: Sequence[object]) -> str | None:
    """`number` where all of them are, or nothing; how a column stands."""
    known = [value for value in values if value is not None]
    return "number" if known and all(map(_is_number, known)) else None


def _is_number(value: object) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return True
    return isinstance(value, str) and _NUMBER.fullmatch(value) is not None


_OWN = element("meta", name="generator", content=GENERATOR)
