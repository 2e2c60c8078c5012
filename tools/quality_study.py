"""One run of a study: train a recipe within its budget, judge it, and say what came of it as a record."""

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from quality_commands import Commands, Ended
from quality_data import FINAL, Part, Source
from quality_metrics import baseline_facts, history_of, run_facts, scores_of
from quality_recipes import Recipe

from sltdino.core import json_files
from sltdino.core.auto import Plan, plan
from sltdino.core.json_lines import JsonLinesReader
from sltdino.core.machine import processor
from sltdino.core.run_files import read_params
from sltdino.core.settings import PretrainSettings
from sltdino.errors import CollapsedError, SettingsError
from sltdino.training.health import COLLAPSES

KEY = ("data", "recipe", "seed", "fold", "budget")
"""What a record is the result of: a key that is there is not run again."""
DONE, FAILED = "done", "failed"
NO_BUDGET = "none"
"""Of a baseline, in its key."""


class Budget(NamedTuple):
    """How long a recipe may train: minutes of so many threads, or steps."""

    num_threads: int
    minutes: float | None = None
    steps: int | None = None

    @property
    def text(self) -> str:
        """As it stands in a key; the time that steps take does not change what they give."""
        if self.steps is not None:
            return f"{self.steps} steps"
        return f"{self.minutes:g} min x {self.num_threads} thread{'s' if self.num_threads > 1 else ''}"


class Job(NamedTuple):
    """A run to make."""

    source: Source
    part: Part
    recipe: Recipe
    seed: int
    budget: Budget

    @property
    def key(self) -> dict[str, Any]:
        """As it stands in the record."""
        budget = self.budget.text if self.recipe.is_trained else NO_BUDGET
        return dict(zip(KEY, (self.source.name, self.recipe.name, self.seed, self.part.name, budget), strict=True))


class FailedRunError(Exception):
    """A command of a run ended with an error; the message is what it said."""


def run_job(
    job: Job, commands: Commands, folder: Path, *, settings: PretrainSettings, keep: bool = False
) -> dict[str, Any]:
    """Make the run in a new folder below `folder`; the record of what came of it, or of how it failed.

    Args:
        settings: of its recipe; see `settings_of`.
        keep: whether the run folder stays.

    Raises:
        InterruptedStudyError: as `Commands.run`.
    """
    facts = {
        **job.key, "flags": job.recipe.flags, "stream": job.source.stream, "group_regex": job.source.group_regex,
        "images": job.source.fingerprint, "num_train": job.part.num_train, "num_val": job.part.num_val,
        "val_read": job.part.name == FINAL, "threads": job.budget.num_threads, "workers": commands.num_workers,
        "load_average": os.getloadavg()[0], "processor": processor()["model"],
    }  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    place = Path(tempfile.mkdtemp(prefix=f"{job.recipe.name}-", dir=folder))
    try:
        found = {"status": DONE, **_measured(job, commands, place / "run", settings)}
    except FailedRunError as error:
        found = {"status": FAILED, "error": str(error)}
    finally:
        if not keep:
            shutil.rmtree(place)
    return {**facts, **found, "timestamp": json_files.now()}


def settings_of(job: Job, commands: Commands) -> PretrainSettings:
    """The settings of a job's recipe, which are the same for each seed and fold; its length is not in them.

    Raises:
        SettingsError: they cannot be; it says which recipe, and what the command said.
    """
    try:
        printed = json.loads(_output(commands.run(*_pretrain(job, commands), "--print-config=json", "--quiet")))
    except FailedRunError as error:
        raise SettingsError(f"recipe {job.recipe.name} on {job.source.name}: {error}") from error
    del printed["//"]  # where the settings come from
    return PretrainSettings.model_validate(printed)


def _measured(job: Job, commands: Commands, run: Path, settings: PretrainSettings) -> dict[str, Any]:
    steps_of = plan(settings, num_images=job.part.num_train)
    length = _length(job, steps_of) if job.recipe.is_trained else ["--epochs", "1"]
    trained = commands.run(*_pretrain(job, commands), *length, "--output-dir", str(run), "--quiet")
    history = history_of(run, images_per_step=steps_of.images_per_step)
    is_ended = trained.exit_code == CollapsedError.exit_code and history.health in COLLAPSES
    if not is_ended:  # which leaves a checkpoint to be judged as any other
        _output(trained)
    regex = ["--group-regex", job.source.group_regex] if job.source.group_regex else []
    evaluated = commands.run(
        "evaluate", str(run), "--which", "last", "--train-dir", str(job.part.train), "--val-dir", str(job.part.val),
        *regex, "--num-workers", str(commands.num_workers), "--json", "--quiet",
    )  # fmt: skip
    results = json.loads(_output(evaluated))["results"]
    found = {**scores_of(results, job.recipe.judged), "environment": read_params(run)["environment"]}
    if not job.recipe.is_trained:
        return {**found, **baseline_facts(history, job.recipe.judged)}
    cost = {"process_seconds": trained.seconds, "cpu_seconds": trained.cpu_seconds}
    return {**found, **run_facts(history), "ended_by_collapse": is_ended, **cost}


def _pretrain(job: Job, commands: Commands) -> list[str]:
    """The command but for its length. The last one of two equal flags counts, so a recipe has its way with workers."""
    judged_on = [] if job.part.name == FINAL else ["--val-dir", str(job.part.val)]
    return [
        "pretrain", job.source.stream, "--num-workers", str(commands.num_workers), *job.recipe.flags,
        "--train-dir", str(job.part.train), "--seed", str(job.seed), *judged_on,
    ]  # fmt: skip


def _length(job: Job, steps_of: Plan) -> list[str]:
    """The flags that give a run its budget; steps are a part of an epoch where they end inside one."""
    if job.budget.minutes is not None:
        return ["--train-minutes", f"{job.budget.minutes:g}"]
    assert job.budget.steps is not None
    # of a fold smaller than a batch there are none, which is for `pretrain` to refuse
    return ["--epochs", str(job.budget.steps / max(1, steps_of.steps_per_epoch))]


def _output(ended: Ended) -> str:
    if ended.exit_code:
        raise FailedRunError(ended.error or f"exit code {ended.exit_code}, and not a word")
    return ended.output


def recorded(out: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """The results in a file by their keys; of two with one key the later, which is a failed one's second try.

    Raises:
        SettingsError: it is no file of results.
    """
    reader = JsonLinesReader(out)
    found = {tuple(record.get(name) for name in KEY): record for record in reader}
    # a single line may be torn: a full disk, or a kill
    if reader.unreadable > 1 or (reader.unreadable and not found) or any("status" not in of for of in found.values()):
        raise SettingsError(f"--out {out}: is no file of results, so nothing is added to it; choose another name")
    return found


def refuse_others(jobs: Iterable[Job], known: Iterable[Mapping[str, Any]]) -> None:
    """Refuse to add results of a recipe that has changed, or of other images, to those under the same name.

    Raises:
        SettingsError: naming it, and the way on.
    """
    flags = {record["recipe"]: record["flags"] for record in known}
    images = {record["data"]: (record["images"], record["stream"], record["group_regex"]) for record in known}
    for job in jobs:
        recipe, source = job.recipe, job.source
        if flags.get(recipe.name, list(recipe.flags)) != list(recipe.flags):
            raise SettingsError(
                f"--out has results of another {recipe.name!r}: {' '.join(flags[recipe.name])}; name the new one "
                "otherwise, or choose another --out"
            )
        now = (source.fingerprint, source.stream, source.group_regex)
        if images.get(source.name, now) != now:
            raise SettingsError(
                f"--out has results of another {source.name!r} (images, --stream or --group-regex differ); rename "
                "the folder, or choose another --out"
            )
