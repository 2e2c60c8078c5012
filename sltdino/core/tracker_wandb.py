"""Weights & Biases: its files in `RUN/wandb`, and its page where it is online."""

import contextlib
import os
import secrets
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sltdino.core import json_files
from sltdino.core.run_files import WANDB
from sltdino.core.tracked import Point, TrackedRun

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PROJECT = "sltdino"
"""Unless WANDB_PROJECT says otherwise."""
FINISH_SECONDS = 45.0
"""To wait for uploads at the end; what is left then stays in the folder, for `wandb sync`."""
_ID = "sltdino.json"


class _Page:
    """A run of theirs. Steps are ours; of a step that a resumed run makes anew they keep what they were told first."""

    def __init__(self, run: TrackedRun) -> None:
        import wandb

        if wandb.run is not None:
            raise RuntimeError("a run of wandb is open in this process already; finish it first")
        identity_file = run.path / WANDB / _ID
        self._wandb, self.is_new = wandb, not identity_file.exists()
        self._run = _opened(wandb, run, "" if self.is_new else str(json_files.read(identity_file)["id"]))
        # no page where it is offline, and asking for its address is answered on the terminal
        is_offline = getattr(self._run, "offline", False)
        self.where = _offline(Path(self._run.dir).parent) if is_offline else str(self._run.url or run.path / WANDB)
        if self.is_new:
            identity_file.parent.mkdir(exist_ok=True)
            json_files.write(identity_file, {"id": self._run.id})

    def point(self, point: Point) -> None:
        """A row of their history; what has the same step is one row."""
        self._run.log({**point.scalars, **point.texts, "_timestamp": point.seconds}, step=point.step)

    def text(self, tag: str, text: str, *, step: int) -> None:
        """In their summary, where long words have room."""
        self._run.summary[tag] = text

    def image(self, tag: str, image_HW3: "NDArray[np.uint8]", *, step: int) -> None:
        """A picture in the row of the step."""
        self._run.log({tag: self._wandb.Image(image_HW3)}, step=step)

    def close(self, exit_code: int) -> None:
        """Upload the rest and mark the run as finished, or as failed."""
        self._run.finish(exit_code=exit_code)

    def abandon(self) -> None:
        """End their process, which would otherwise complain on the terminal when ours ends."""
        for end in (self._run.finish, self._wandb.teardown):
            with contextlib.suppress(Exception):
                end(exit_code=1)


def open_wandb(run: TrackedRun) -> _Page:
    """Begin a run of theirs, or continue the one this run had.

    Entity, mode and whatever else they read from the environment is theirs; so is the project, by default `sltdino`.

    Raises:
        Exception: whatever they raise: there is no key, no network, no such project.
    """
    return _Page(run)


def forget_page(run: Path) -> None:
    """Let a new run in the same folder have a page of its own; the files of the old one, perhaps not uploaded, stay.

    Raises:
        OSError: the file that names the page cannot be removed.
    """
    if not (run / WANDB).is_symlink():
        (run / WANDB / _ID).unlink(missing_ok=True)


def _offline(folder: Path) -> str:
    return f"{folder}, offline; to upload it: wandb sync {shlex.quote(str(folder))}"


def _opened(wandb: Any, run: TrackedRun, identity: str) -> Any:
    environ = os.environ
    wanted: dict[str, Any] = {"silent": True, "console": "off"}  # the terminal is ours
    if "finish_timeout" in getattr(wandb.Settings, "model_fields", ()):  # older ones wait for as long as it takes
        wanted["finish_timeout"] = FINISH_SECONDS
    wandb.setup(settings=wandb.Settings(silent=True))  # before init, which would ask for a key
    page = wandb.init(
        dir=str(run.path),
        id=identity or environ.get("WANDB_RUN_ID") or secrets.token_hex(4),
        resume="allow",
        project=environ.get("WANDB_PROJECT") or PROJECT,
        name=run.name or environ.get("WANDB_NAME") or run.path.name,
        notes=run.notes or None,
        tags=list(run.tags) or None,
        settings=wandb.Settings(**wanted),
    )
    page.config.update(dict(run.hyperparameters), allow_val_change=True)  # a resumed run may have changed some
    return page
