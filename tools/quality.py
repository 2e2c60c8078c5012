"""Does it learn, how well, and at what cost: recipes trained under one budget, judged by folds, side by side.

    python tools/quality.py --data crops --recipes laptop,dino,untrained --minutes 2 --out results.jsonl --table
    python tools/quality.py --data synthetic:hands --recipe mine='--preset laptop --koleo-weight 0.1' --steps 500 ...
    python tools/quality.py --data crops --recipes laptop --sweep 10 --steps 300 --out safety.jsonl
    python tools/quality.py --out results.jsonl --table --curves curves.svg       # of what is there; nothing is run

A folder has `train/<label>/` and `val/<label>/`; recipes are compared on folds of train, and val is read by --final
alone. The same call again makes what is missing. tools/QUALITY.md says what the columns mean.
"""

import shutil
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from quality_commands import Commands, InterruptedStudyError
from quality_curves import picture
from quality_data import final_part, fold_parts, sources_of
from quality_recipes import Recipe, recipes_of
from quality_study import FAILED, Budget, Job, recorded, refuse_others, run_job, settings_of
from quality_table import safety, sections, table

from sltdino.core import files
from sltdino.core.json_lines import JsonLines
from sltdino.core.lock import FolderLock, is_held
from sltdino.core.machine import usable_cores
from sltdino.core.run_files import LOCK
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_schema import printable
from sltdino.errors import RunInUseError, SettingsError, SltDinoError


def study(
    jobs: list[Job], commands: Commands, out: Path, folder: Path, *, num_at_once: int, retry: bool, keep: bool
) -> int:
    """Make the runs whose results are not in `out`, and add a line for each as it ends; how many failed.

    Args:
        folder: in which each run has a folder, which is removed unless `keep`.
        retry: whether those that failed are made again.

    Raises:
        SettingsError: a recipe cannot be, or is another than the one of that name in `out`.
        InterruptedStudyError: a run was asked to stop; what is in `out` stands.
    """
    known = recorded(out)
    refuse_others(jobs, known.values())
    again = (FAILED,) if retry else ()
    missing = [job for job in jobs if (found := known.get(tuple(job.key.values()))) is None or found["status"] in again]
    say(f"{len(jobs)} runs, {len(jobs) - len(missing)} of them made before")
    if not missing:
        return 0
    settings = dict[tuple[str, str], PretrainSettings]()
    for job in missing:
        if (of := (job.source.name, job.recipe.name)) not in settings:
            settings[of] = settings_of(job, commands)
    results, pool, num_failed = JsonLines(out), ThreadPoolExecutor(num_at_once), 0
    try:
        waiting = [
            pool.submit(run_job, job, commands, folder, settings=settings[job.source.name, job.recipe.name], keep=keep)
            for job in missing
        ]
        for number, future in enumerate(as_completed(waiting), start=1):
            record = {**future.result(), "jobs": num_at_once}
            results.append(record)
            num_failed += record["status"] == FAILED
            say(f"[{number}/{len(missing)}] {_said(record)}")
    finally:
        commands.end()
        pool.shutdown(cancel_futures=True)
        results.close()
    return num_failed


def say(text: str) -> None:
    """A line on stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def _said(record: dict[str, Any]) -> str:
    what = f"{record['data']} {record['recipe']} seed {record['seed']} fold {record['fold']}"
    if record["status"] == FAILED:
        return f"{what}: failed: {record['error']}"
    verdict = f", {record['health']}" if record["health"] else ""
    return (
        f"{what}: k-NN {record['knn']:.1%} (start {record['knn_untrained']:.1%}), {record['steps']} steps in "
        f"{record['train_seconds'] / 60:.1f} min{verdict}"
    )


def _budget(recipes: list[Recipe], minutes: float | None, steps: int | None, num_threads: int) -> Budget:
    if any(recipe.is_trained for recipe in recipes) and (minutes is None) == (steps is None):
        raise SettingsError("--minutes or --steps: one of them is needed, and not both")
    return Budget(num_threads, minutes, steps)


def _show(out: Path, reference: str, *, as_table: bool, as_safety: bool, curves: Path | None) -> None:
    """What was asked for of all results in the file."""
    found = sections(recorded(out).values(), reference=reference)
    if as_safety:
        print(_lines(safety(found)))
    if as_table:
        print(_lines(table(found, reference=reference)))
    if curves is not None:
        if not (drawn := picture(found)):
            raise SettingsError(f"--curves: no run in {out} was judged while it trained, so there is nothing to draw")
        with files.new_file(curves) as file:
            file.write(drawn.encode())


@contextmanager
def held(work: Path) -> Iterator[None]:
    """Keep the working folder to one study, and begin with what a killed one left removed."""
    with files.os_errors(work):
        work.mkdir(parents=True, exist_ok=True)
    try:
        lock = FolderLock(work / "lock")
    except RunInUseError as error:
        raise RunInUseError(f"{work}: another study is at work on it; wait for it, or choose another --out") from error
    try:
        _clear(work)
        yield
    finally:
        lock.release()


def _clear(work: Path) -> None:
    """Remove what a killed study left.

    Raises:
        RunInUseError: a run of it is still at work, and would take time from those that are measured.
    """
    for place in (work / "runs").glob("*"):
        if is_held(place / "run" / LOCK):
            raise RunInUseError(f"{place / 'run'}: a run of a study that was killed is still at work; wait or end it")
        shutil.rmtree(place)


def _on_sigterm(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _lines(text: str) -> str:
    return "\n".join(map(printable, text.split("\n")))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def main(
    out: Annotated[Path, typer.Option(help="File of results, a JSON line for each run; it grows.")],
    data: Annotated[
        list[str] | None, typer.Option(help="Folder with train and val, or synthetic:hands|face[:COUNT]; repeatable.")
    ] = None,
    recipes: Annotated[str, typer.Option(help="Names of quality_recipes.py, with commas between.")] = "",
    recipe: Annotated[
        list[str] | None, typer.Option(metavar="NAME='FLAGS'", help="One of your own: flags of pretrain; repeatable.")
    ] = None,
    minutes: Annotated[float | None, typer.Option(min=0.01, help="Training time of a run.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Or its steps, in whole epochs.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Of a run.")] = 1,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once.")] = 1,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each recipe and fold.")] = 1,
    folds: Annotated[int, typer.Option(min=2, help="Parts of train, each of which is judged once.")] = 3,
    group_regex: Annotated[
        str, typer.Option(help="Its capture group in a file name is what no fold tears apart.")
    ] = "",
    stream: Annotated[str, typer.Option(help="hands or face: what the folders show.")] = "hands",
    final: Annotated[bool, typer.Option("--final", help="Train on all of train and judge on val.")] = False,
    sweep: Annotated[int | None, typer.Option(min=1, help="So many seeds on one fold: how often is harm done?")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try those again that failed.")] = False,
    keep_runs: Annotated[bool, typer.Option("--keep-runs", help="Leave the run folders, in OUT-work/runs.")] = False,
    show_table: Annotated[bool, typer.Option("--table", help="Print the results in OUT as a table.")] = False,
    reference: Annotated[str, typer.Option(help="The recipe that the table compares with.")] = "laptop",
    curves: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Draw the learning curves in OUT.")] = None,
) -> None:
    """Train and judge recipes under one budget, and say what the results are."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    work, num_failed = out.absolute().with_name(f"{out.stem}-work"), 0
    try:
        if data or recipes or recipe:
            if jobs * threads > usable_cores():
                say(f"{jobs} runs of {threads} threads on {usable_cores()} cores: minutes are not what they seem")
            chosen = recipes_of(_names(recipes), recipe or ())
            if not data or not chosen:
                raise SettingsError(
                    "a study needs --data, and --recipes or --recipe; without any of them nothing is run"
                )
            budget = _budget(chosen, minutes, steps, threads)
            with held(work):
                sources = sources_of(data or (), stream=stream, group_regex=group_regex, work=work)
                parts = {
                    s: [final_part(s)] if final else fold_parts(s, folds, work)[: 1 if sweep else None] for s in sources
                }
                todo = [
                    Job(source, parts[source][at], of, seed, budget)
                    for seed in range(sweep or seeds)
                    for at in range(1 if final or sweep else folds)
                    for source in sources
                    for of in chosen
                ]
                num_failed = study(
                    todo, Commands(threads), out, work / "runs", num_at_once=jobs, retry=retry_failed, keep=keep_runs
                )
        _show(out, reference, as_table=show_table, as_safety=sweep is not None, curves=curves)
    except SltDinoError as error:
        say(f"error: {error}")
        raise typer.Exit(error.exit_code) from error
    except (InterruptedStudyError, KeyboardInterrupt) as error:
        say(f"stopped; what is in {out} stands, and the same call goes on")
        raise typer.Exit(130) from error
    raise typer.Exit(1 if num_failed else 0)


if __name__ == "__main__":
    typer.run(main)
