"""`sltdino inspect RUN`, `inspect FILE`, and several of them side by side."""

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from sltdino.cli import completion
from sltdino.cli.results import print_json
from sltdino.core.missing import not_there
from sltdino.core.run_files import PARAMS
from sltdino.core.settings_schema import printable
from sltdino.core.starter import weights_path
from sltdino.core.terminal import takes_a_bar
from sltdino.errors import CheckpointError, MissingInputError, SettingsError

_EVERY = 2.0


def inspect(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|FILE...",
            help="Run folders, or files of weights: one, two to compare, or any number of runs; or starter.",
            autocompletion=completion.runs_and_weights,
            readable=False,
        ),
    ],
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on looking until the run ends; end with its exit code.")
    ] = False,
    every: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", min=0.2, max=600, help="Between two looks of --follow. [default: 2]", show_default=False
        ),
    ] = None,
    as_markdown: Annotated[
        bool, typer.Option("--md", help="Print settings that differ and results of runs as Markdown tables.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the facts as JSON.")] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Also write a report to read in a browser, without network; of several runs, "
            "a comparison. An older report is replaced.",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Let --html replace what is no report.")] = False,
) -> None:
    """Say what a run or a file of weights is, or how several of them differ.

    Of a run: whether it is good, so-so or bad and what to do, how far it got, how fast it is, how good its features are
    and whether it is healthy. Of a file (or a folder with a config.json): which network, from where, what can load it,
    and whether it is sound. Of two: settings, results and weights side by side; of more runs: settings and results.
    Nothing in a file is run.

    --html writes a page that needs no network and no script: the verdict first, then curves, what the run was shown and
    what it learned, its images, settings, checkpoints and exports. It may lie in the run's folder, never among images.

    --follow shows a run that goes on: the page again and again on a terminal, elsewhere a line for each epoch,
    evaluation and finding. It ends with the run's exit code, with 71 when the run's process was killed, and with 130
    after Ctrl-C, which leaves the run alone.
    """
    _refuse_what_makes_no_sense(sources, follow=follow, every=every, as_markdown=as_markdown, as_json=as_json)
    _refuse_for_html(sources, html, follow=follow, overwrite=overwrite)
    if follow:
        _follow(sources[0], every=_EVERY if every is None else every)
    content, page = _looked_at(sources, as_markdown=as_markdown)
    if as_json:
        print_json(content)
    else:
        _print(page)
    if html is not None:
        _write_report(html, sources)
    if content.get("problem"):
        raise CheckpointError(f"{content['path']}: {content['problem']}", code="E-WEIGHTS")


def _refuse_what_makes_no_sense(
    sources: list[Path], *, follow: bool, every: float | None, as_markdown: bool, as_json: bool
) -> None:
    problems = []
    if follow and len(sources) > 1:
        problems.append(f"--follow: shows one run, and {len(sources)} are named; name one")
    if follow and (as_markdown or as_json):
        flag = "--md" if as_markdown else "--json"
        problems.append(f"--follow: does not go with {flag}; leave one out (a program reads metrics.jsonl)")
    if every is not None and not follow:
        problems.append("--every: is for --follow; add it, or leave --every out")
    if as_markdown and as_json:
        problems.append("--md: does not go with --json; leave one out")
    if problems:
        raise SettingsError(*problems)
    only_runs = "--follow" if follow else "--md" if as_markdown else "more than two sources" if sources[2:] else ""
    files = [f"{source}: {only_runs} can only be runs, and this is none" for source in sources if _is_weights(source)]
    if only_runs and files:
        raise SettingsError(*files)


def _refuse_for_html(sources: list[Path], html: Path | None, *, follow: bool, overwrite: bool) -> None:
    """Refuse what a report cannot be of, and where it cannot be written, before the work of making it."""
    if html is None:
        if overwrite:
            raise SettingsError("--overwrite: is for --html; add it, or leave --overwrite out")
        return
    if follow:
        raise SettingsError("--html: does not go with --follow; write the report when the run has ended, or in between")
    if files := [f"{source}: --html is for runs, and this is none" for source in sources if _is_weights(source)]:
        raise SettingsError(*files)
    from sltdino.report.web.page_file import check_place

    check_place(html, sources, overwrite=overwrite)


def _write_report(path: Path, runs: list[Path]) -> None:
    from sltdino.report.web.comparison_page import comparison_page
    from sltdino.report.web.page_file import write_page
    from sltdino.report.web.run_page import run_page

    if len(runs) == 1:
        typer.echo("report: drawing its pictures, which takes some seconds", err=True)
    page = comparison_page(runs) if len(runs) > 1 else run_page(runs[0])
    write_page(path, page)
    typer.echo(f"report: {printable(str(path))}, {len(page.encode()) / 1e6:.1f} MB", err=True)


def _looked_at(sources: list[Path], *, as_markdown: bool) -> tuple[dict[str, Any], str]:
    """The facts, and the page."""
    if as_markdown or len(sources) > 2:
        from sltdino.report import side_by_side

        content = side_by_side.look_at(sources)
        return content, side_by_side.markdown(content) if as_markdown else side_by_side.render(content)
    if len(sources) == 2:
        from sltdino.report import comparison

        content = comparison.compare(*sources)
        return content, comparison.render(content)
    source = weights_path(sources[0])
    if not source.exists():
        raise MissingInputError(not_there(source))
    if _is_weights(source):
        from sltdino.report import weights

        content = weights.describe(source)
        return content, weights.render(content)
    from sltdino.report import summary
    from sltdino.report.text import plots, run_page

    content = summary.summarize(source)
    return content, run_page.render(content, plots.glyphs_for(_encoding()))


def _is_weights(source: Path) -> bool:
    """Whether it is to be read as weights; a folder that is neither is to be called no run."""
    if not source.exists() or (source / PARAMS).exists():
        return False
    if not source.is_dir():
        return True
    from sltdino.core.foreign_weights import WEIGHTS_OF_FOLDER  # which needs torch: a run's page does not

    return any((source / name).is_file() for name in ("config.json", *WEIGHTS_OF_FOLDER))


def _follow(run: Path, *, every: float) -> NoReturn:
    from sltdino.report import follow

    is_painted = takes_a_bar(sys.stdout, os.environ)
    facts = (_paint if is_painted else _append)(run, every)
    raise typer.Exit(follow.exit_code(facts))


def _paint(run: Path, every: float) -> dict[str, Any]:
    """Draw the page in place; the last one stays. The cursor stays visible, so that even a kill leaves it so."""
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from sltdino.report import follow
    from sltdino.report.text import plots, run_page

    console = Console(highlight=False, markup=False)
    glyphs, facts = plots.glyphs_for(_encoding()), dict[str, Any]()
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        console.show_cursor(True)
        for look in follow.looks(run, every=every):
            facts = look.facts
            page = run_page.render(facts, glyphs) if facts else _waiting(run)
            live.update(Text(page, overflow="fold"), refresh=True)
    return facts


def _append(run: Path, every: float) -> dict[str, Any]:
    """A line for everything new."""
    from sltdino.report import follow

    facts, has_waited = dict[str, Any](), False
    for look in follow.looks(run, every=every):
        facts = look.facts
        lines = look.news if facts else () if has_waited else (_waiting(run),)
        has_waited = not facts
        for line in lines:
            _print(line)
        sys.stdout.flush()
    _print(f"{follow.ending(facts)}\nverdict: {facts['verdict']['grade']}: {facts['verdict']['why']}")
    return facts


def _waiting(run: Path) -> str:
    return f"{printable(str(run))}: a process is at work in it and has not begun yet"


def _print(text: str) -> None:
    from sltdino.report.text import plots

    if plots.glyphs_for(_encoding()) is plots.ASCII:
        text = text.replace("…", "~")  # which stands for what was cut out, in one column too
    typer.echo("\n".join(map(printable, text.split("\n"))))


def _encoding() -> str | None:
    return getattr(sys.stdout, "encoding", None)
