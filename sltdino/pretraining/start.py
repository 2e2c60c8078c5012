"""What a run starts from: an earlier checkpoint or none, its images, and the settings that changed."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sltdino.core.auto import settle
from sltdino.core.changes import Change, check_changes, compare
from sltdino.core.run_files import LoadedCheckpoint, has_checkpoint, load_checkpoint, stored_settings
from sltdino.core.settings import PretrainSettings
from sltdino.core.settings_files import LoadedSettings
from sltdino.data.image_folder import ImageFolder, scan
from sltdino.errors import MissingInputError, RunFolderError, SettingsError
from sltdino.pretraining.progress import Reporter, Silent


def output_dir(settings: PretrainSettings) -> Path:
    """The run folder."""
    return settings.output_dir or Path("work_dirs") / f"{settings.algorithm}_{settings.stream}"


def asked_for(settings: PretrainSettings) -> LoadedCheckpoint | None:
    """The checkpoint that `--resume` names; None to start anew."""
    asked = settings.resume_from
    if asked is None:
        return None
    out = output_dir(settings)
    if asked in ("auto", "must"):
        if has_checkpoint(out):
            return load_checkpoint(out, fallback=asked == "auto")
        if asked == "must":
            raise MissingInputError(f"{out}: no checkpoint there, as --resume must needs; name a run or leave it out")
        return None
    source = Path(asked)
    folder = source if source.is_dir() else source.parent
    if settings.output_dir is not None and settings.output_dir.resolve() != folder.resolve():
        raise RunFolderError(
            f"--resume: {asked} goes on in its own folder, not in --output-dir {settings.output_dir}; "
            "leave --output-dir out, or copy the run folder first"
        )
    return load_checkpoint(source)


def scan_images(settings: PretrainSettings, out: Path, reporter: Reporter) -> ImageFolder:
    """The training images; what was passed over is said.

    Raises:
        SettingsError: the run folder lies inside a training folder. MissingInputError, DataError: as `scan`.
    """
    for folder in settings.train_dir:
        if out.resolve().is_relative_to(folder.resolve()) and folder.is_dir():
            raise SettingsError(f"--output-dir: {out} lies inside the training folder {folder}; choose another place")
    images = scan(settings.train_dir)
    for warning in images.warnings:
        reporter.warn(warning)
    if images.other_formats:
        counted = ", ".join(f"{count:,} {suffix or 'without suffix'}" for suffix, count in images.other_formats.items())
        reporter.say(f"not read: {counted} (PNG, JPEG, BMP and TIFF are)")
    return images


def data_change(state: dict[str, Any], images: ImageFolder) -> list[Change]:
    """The change of the images since the checkpoint, if they are others."""
    before = state["images"]
    if before["fingerprint"] == images.fingerprint:
        return []
    old, new = (f"{count:,} images, listing {digest[:8]}" for count, digest in (
        (before["count"], before["fingerprint"]), (len(images), images.fingerprint)))  # fmt: skip
    return [Change("train_dir", "trajectory", old, new)]


def with_changes(stored: PretrainSettings, changes: Sequence[Change]) -> PretrainSettings:
    """The run's settings, after the changes were accepted."""
    values = stored.model_dump()
    for change in changes:
        if isinstance(change.new, str) and change.key == "train_dir":
            continue  # the folders are the same, what lies in them is not
        *sections, field = change.key.split(".")
        target = values
        for section in sections:
            target = target[section]
        target[field] = change.new
    return PretrainSettings.model_validate(values)


def planned_settings(
    settings: PretrainSettings, *, origins: Mapping[str, str] | None = None, reporter: Reporter | None = None
) -> LoadedSettings:
    """The settings that a run would go by: every `auto` settled, or those of the run that it would go on with.

    Nothing is written.

    Raises:
        SltDinoError: as `pretrain`, before it makes anything.
    """
    given = dict(origins or {})
    checkpoint = asked_for(settings)
    if checkpoint is not None:
        stored = stored_settings(checkpoint)
        changes = compare(stored, settings)
        check_changes(changes, ())
        return LoadedSettings(with_changes(stored, changes), {**checkpoint.state["origins"], **given})
    images = scan_images(settings, output_dir(settings), reporter or Silent())
    settled = settle(settings, num_images=len(images))
    return LoadedSettings(settled.settings, {**given, **settled.origins})
