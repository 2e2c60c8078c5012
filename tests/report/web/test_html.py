"""The blocks of the report's pages: text stays text, and a page stands on its own."""

import base64
from html.parser import HTMLParser

import pytest

from sltdino.report.web.html import (
    Html,
    document,
    element,
    escape,
    facts,
    figure,
    image,
    join,
    paragraph,
    section,
    show,
    table,
)

HOSTILE = """</title></style><script>alert(1)</script><img src=x onerror="alert('2')">&amp;\x1b[31m\u202e"""


class Seen(HTMLParser):
    """What a parser of the standard library finds in a page: tags with attributes, and text."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_text_comes_back_from_a_parser_as_it_was_and_makes_no_tag() -> None:
    seen = Seen(escape("""</p><b class='x' id="y">& &lt;\nnext"""))
    assert seen.tags == []
    assert seen.text == """</p><b class='x' id="y">& &lt;\nnext"""


def test_control_and_direction_characters_are_spelt_out() -> None:
    assert escape("a\x1b[31m\u202eb\udcff") == "a\\x1b[31m\\u202eb\\udcff"


@pytest.mark.parametrize(
    "made",
    [
        paragraph(HOSTILE),
        element("p", "x", title=HOSTILE, class_=HOSTILE),
        table([HOSTILE], [[HOSTILE, HOSTILE]], caption=HOSTILE),
        figure(image(b"png", alt=HOSTILE, width=1, height=1), HOSTILE),
        facts([(HOSTILE, HOSTILE)]),
        section("a", HOSTILE, join([HOSTILE])),
    ],
)
def test_hostile_text_stays_text_in_every_block(made: Html) -> None:
    names = {tag for tag, _ in Seen(made).tags}
    assert not names & {"script", "title", "style"}
    assert [attributes["src"] for tag, attributes in Seen(made).tags if tag == "img"] in (
        [],
        ["data:image/png;base64,cG5n"],
    )
    assert not [key for _, attributes in Seen(made).tags for key in attributes if key.startswith("on")]


def test_an_image_is_part_of_the_page() -> None:
    [(tag, attributes)] = Seen(image(b"\x89PNG", alt='a "hand"', width=4, height=3)).tags
    source = attributes.pop("src") or ""
    assert base64.b64decode(source.removeprefix("data:image/png;base64,")) == b"\x89PNG"
    assert (tag, attributes) == ("img", {"alt": 'a "hand"', "width": "4", "height": "3"})


def test_numbers_stand_right_and_a_column_of_them_has_its_name_there() -> None:
    seen = Seen(
        table(["name", "size", "note"], [["a", 1200, "2 of 3"], ["b", "46.2%", 7], ["c", None, 8]], caption="c")
    )
    classes = [(tag, attributes.get("class")) for tag, attributes in seen.tags if tag in ("th", "td")]
    assert classes[:3] == [("th", None), ("th", "number"), ("th", None)]
    assert classes[4:6] == [("td", "number"), ("td", None)]
    assert "1,200" in seen.text


@pytest.mark.parametrize(
    ("value", "text"), [(None, "–"), ("", "–"), (True, "yes"), (12345, "12,345"), (0.123456, "0.1235"), ("<", "&lt;")]
)
def test_a_value_is_shown_as_a_reader_wants_it(value: object, text: str) -> None:
    assert show(value) == text


def test_every_link_of_the_navigation_has_its_section() -> None:
    seen = Seen(document("t", section("one", "One & all"), section("two", "Two"), paragraph("loose")))
    links = [str(attributes["href"]) for tag, attributes in seen.tags if tag == "a"]
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert links == ["#main", "#one", "#two"]
    assert {link[1:] for link in links} <= set(ids)
    assert len(set(ids)) == len(ids)
    assert [tag for tag, _ in seen.tags if tag in ("header", "nav", "main", "footer")] == [
        "header",
        "nav",
        "main",
        "footer",
    ]


def test_two_sections_of_one_anchor_are_a_mistake_of_ours() -> None:
    with pytest.raises(AssertionError, match="share an anchor"):
        document("t", section("a", "One"), section("a", "Two"))


def test_a_page_may_load_and_run_nothing() -> None:
    page = document(HOSTILE, section("a", HOSTILE, paragraph(HOSTILE)))
    seen = Seen(page)
    [policy] = [a["content"] for _, a in seen.tags if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in str(policy)
    assert "script" not in {tag for tag, _ in seen.tags}
    links = [str(a.get(key)) for _, a in seen.tags for key in ("src", "href") if key in a]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert "url(" not in page
    assert "@import" not in page
