"""The programs that read exports: optional, imported where one is asked for."""

import importlib
from typing import Any

from sltdino.errors import SettingsError


def required(module: str, *, format: str, extra: str) -> Any:
    """An optional package's module.

    Raises:
        SettingsError: it is not installed, with the line that installs it.
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)  # by itself first, so that an error is about it and not its part
        return importlib.import_module(module)
    except ImportError as error:
        reason = "is not installed" if error.name == package else f"does not import ({error})"
        raise SettingsError(
            f"--format {format}: {package}, which writes and checks it, {reason}; pip install 'sltdino[{extra}]'"
        ) from error
