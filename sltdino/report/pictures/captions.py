"""How to read a picture, said the same way under each."""

from sltdino.report.web.html import Html, details, element, join, paragraph


def how_to_read(what: str, *, good: str, bad: str, made: str) -> Html:
    """What is seen, then what a good and a bad one look like, each a sentence or two; how it was made, to open."""
    judged = join([element("strong", "Good: "), good, element("br"), element("strong", "Bad: "), bad])
    return join(
        [paragraph(what), paragraph(judged, kind="note"), details("How it was made", paragraph(made), printed=True)]
    )
