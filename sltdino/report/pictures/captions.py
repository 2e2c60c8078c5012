"""How to read a picture, said the same way under each."""

from sltdino.report.web.html import Html, element, join, paragraph


def how_to_read(what: str, *, good: str, bad: str) -> Html:
    """What is seen and how it was made, then what a good and a bad one look like, each a sentence or two."""
    judged = join([element("strong", "Good: "), good, element("br"), element("strong", "Bad: "), bad])
    return join([paragraph(what), paragraph(judged, kind="note")])
