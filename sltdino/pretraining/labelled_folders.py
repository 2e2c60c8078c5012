"""Which labelled folders an evaluation is of, where not all of them are named, and whether the run has seen them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sltdino.core.settings import PretrainSettings
from sltdino.data.held_out import shared_images
from sltdino.data.image_folder import ImageFolder, scan, scan_listed
from sltdino.errors import SettingsError, SltDinoError


class LabelledFolders(NamedTuple):
    """What to evaluate on."""

    train: tuple[Path, ...]
    """Empty where the validation images are to be judged by each other."""
    val: tuple[Path, ...]
    exclude: Path | None
    """The list of training images that the run left out, where they are its own."""
    notes: tuple[str, ...]
    """What a reader of the numbers should know of them."""


def folders_of(
    source: Path, settings: PretrainSettings | None, train_dirs: Sequence[Path], val_dirs: Sequence[Path]
) -> LabelledFolders:
    """What was named, else the run's own.

    Where no training folder is named and the run's images have none of the labels, or are the validation images, these
    are judged by each other, as while training.

    Args:
        settings: of the run; None where others wrote the weights.

    Raises:
        SettingsError: no validation folder is named, and the run has none. MissingInputError, DataError: as `scan`.
    """
    own_val = settings.evaluation.val_dir if settings is not None else None
    val = tuple(val_dirs) or ((own_val,) if own_val is not None else ())
    if not val:
        reason = "is no run or checkpoint" if settings is None else "was trained without --val-dir"
        raise SettingsError(
            f"--val-dir: missing; name a folder with a sub-folder for each label, because {source} {reason} (without "
            "--train-dir its images are judged by each other where the run has no labels)"
        )
    if settings is None:
        return LabelledFolders(tuple(train_dirs), val, None, ())
    judged = scan(val)
    try:
        trained_on = scan_listed(settings.train_dir, settings.dataset.exclude)
    except SltDinoError as error:
        if not train_dirs:
            raise SettingsError(
                f"--train-dir: missing, and the run's own images cannot be listed ({error}); name a folder with a "
                "sub-folder for each label"
            ) from error
        return LabelledFolders(
            tuple(train_dirs), val, None, (f"whether the run trained on them is not known: {error}",)
        )
    shared = shared_images(trained_on, judged)
    notes: tuple[str, ...] = ()
    if shared.number:
        notes = (
            f"the run was trained on {shared.number:,} of the {len(judged):,} validation images, without their labels: "
            "on others its features may be worth less",
        )
    if train_dirs:
        return LabelledFolders(tuple(train_dirs), val, None, notes)
    if shared.number == len(judged) or not _has_labels_of(trained_on, judged):
        return LabelledFolders((), val, None, notes)
    return LabelledFolders(settings.train_dir, val, settings.dataset.exclude, ())


def _has_labels_of(images: ImageFolder, others: ImageFolder) -> bool:
    """Whether k-NN has two labels to choose between, by the rule that the run's own probe goes by."""
    return len((set(images.labels) & set(others.labels)) - {""}) >= 2
