"""The page that `sltdino check` prints: the verdict, what to look at, the facts."""

import shlex
import textwrap
from collections.abc import Iterator
from typing import Any

from sltdino.core.settings_schema import printable
from sltdino.data.checking.flaws import Flaw
from sltdino.data.checking.survey import Survey
from sltdino.report.check import CheckReport
from sltdino.report.check_facts import fact_rows, share
from sltdino.report.text.page import WIDTH, counted, rows, short

_EXAMPLES, _EXAMPLE_WIDTH = 3, 64


def check_text(report: CheckReport) -> str:
    """The page, of at most 80 columns."""
    verdict = textwrap.fill(printable(report.facts["verdict"]), WIDTH, break_on_hyphens=False)
    blocks = [verdict, *(_flaw(report.survey, flaw) for flaw in report.flaws)]
    blocks.append(rows(fact_rows(report.facts)))
    blocks += map(printable, _files(report.facts))
    return "\n\n".join(blocks)


def _files(facts: dict[str, Any]) -> Iterator[str]:
    excluded = facts["excluded"]
    if excluded["list"] is not None:
        command = shlex.join(["--exclude", str(excluded["list"])])
        yield f"exclusion list of {excluded['number']:,} images; next: sltdino pretrain ... {command}"
        if excluded["taken_off"]:
            yield f"it replaces an earlier list; on it no more: {counted(excluded['taken_off'], 'image')}"
    elif excluded["number"]:
        yield "no exclusion list was written, since this folder is one of the images; --exclude-list FILE says where"
    if facts["html"] is not None:
        yield f"page: {facts['html']}"


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
