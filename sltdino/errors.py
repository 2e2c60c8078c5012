"""Errors a user can act on: what happened, where, and what to do. The command line prints them as one line.

Every class carries a stable code for scripts and the exit code of `status.json`:

* SltDinoError
  - SettingsError 2 · RunFolderError 2 · ChangeRefusedError 2
  - DivergedError 3 · CollapsedError 3 (the run was saved)
  - DataError 65 · CheckpointError 65 · MissingInputError 66
  - RunInUseError 69 · ResourceError 71 · CannotCreateError 73 · StorageError 74
  - StoppedError 75 or 130 (the run was saved and can be resumed)
"""

from typing import ClassVar


class SltDinoError(Exception):
    """Base of all errors of this package. The message names the object, the cause and the next action."""

    code: ClassVar[str] = "E-ERROR"
    exit_code: int = 1


class SettingsError(SltDinoError):
    """The files, `--set` items or flags are not valid settings. `problems` has one line for each mistake."""

    code = "E-SETTINGS"
    exit_code = 2

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class RunFolderError(SltDinoError):
    """The folder cannot be used as asked: not a run, not empty, or a name in it would be overwritten."""

    code = "E-RUN-FOLDER"
    exit_code = 2


class ChangeRefusedError(SltDinoError):
    """A resumed run was asked to change something that would make it another run."""

    code = "E-CHANGE"
    exit_code = 2


class DivergedError(SltDinoError):
    """A loss, gradient or weight stopped being finite. Nothing of it reached a file."""

    code = "E-DIVERGED"
    exit_code = 3


class CollapsedError(SltDinoError):
    """The run has learned nothing for long. It was saved first, and can be resumed with other settings."""

    code = "E-COLLAPSED"
    exit_code = 3


class DataError(SltDinoError):
    """The images cannot be trained on: too few, or too many of them broken."""

    code = "E-DATA"
    exit_code = 65


class CheckpointError(SltDinoError):
    """A checkpoint is damaged, foreign, or of a version this software does not read."""

    code = "E-CKPT"
    exit_code = 65

    def __init__(self, message: str, *, code: str = "E-CKPT") -> None:
        super().__init__(message)
        self.code = code  # type: ignore[misc]  # more precise than the class: E-CKPT-CORRUPT, E-CKPT-VERSION, ...


class MissingInputError(SltDinoError):
    """A file or folder that was named does not exist."""

    code = "E-MISSING"
    exit_code = 66


class RunInUseError(SltDinoError):
    """Another process holds the run folder."""

    code = "E-IN-USE"
    exit_code = 69


class ResourceError(SltDinoError):
    """Out of memory, or a worker process died. The run can be resumed."""

    code = "E-RESOURCE"
    exit_code = 71


class CannotCreateError(SltDinoError):
    """An output file or folder cannot be created."""

    code = "E-CREATE"
    exit_code = 73


class StorageError(SltDinoError):
    """Reading or writing failed, or the disk is full. What was saved before still stands."""

    code = "E-STORAGE"
    exit_code = 74


class StoppedError(SltDinoError):
    """A signal asked the run to stop; it was saved first. 130 after Ctrl-C, else 75."""

    code = "E-STOPPED"

    def __init__(self, message: str, *, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code
