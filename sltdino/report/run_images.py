"""The images that a run trains on, as they lie in its folders now."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sltdino.core.run_files import read_settings
from sltdino.data.image_folder import ImageFolder, scan, scan_listed
from sltdino.errors import RunFolderError


def run_images(run: Path, params: Mapping[str, Any]) -> ImageFolder:
    """List the training folders of a run, without what its --exclude names; of an old script, by its params.json.

    Raises:
        MissingInputError, DataError: as `scan` and `read_exclusions`.
    """
    try:
        settings = read_settings(run).settings
    except RunFolderError:  # of an old script, which had no lists
        named = params.get("train_dirs")
        return scan([Path(str(folder)) for folder in named] if isinstance(named, list) else [])
    return scan_listed(settings.train_dir, settings.dataset.exclude)
