"""What a run writes when it is done: the exports that were asked for."""

from pathlib import Path
from typing import Any

import torch

from sltdino.core import files
from sltdino.core.run_dir import RunDir
from sltdino.core.settings import PretrainSettings
from sltdino.errors import SettingsError, SltDinoError
from sltdino.exporting.backbone import trained_backbone
from sltdino.exporting.formats import artifact_metadata, artifact_name, write_backbone
from sltdino.exporting.output_names import prepare_output, refuse_output, refuse_replacement
from sltdino.exporting.to_slt import slt_state_dict
from sltdino.pretraining.progress import Reporter
from sltdino.pretraining.session import Session

_NO_REGISTERS = "SLT's network has no register tokens, so this backbone cannot be exported to it"


def check_exports(settings: PretrainSettings, run: RunDir, reporter: Reporter) -> None:
    """Find out before the training, not after it, that an export cannot be written.

    Raises:
        SettingsError, RunFolderError: as in `export_problems`.
        CannotCreateError, StorageError: an export's folder cannot be written to.
    """
    for problem in export_problems(settings, run.path):
        raise problem
    if warning := export_warning(settings):
        reporter.warn(warning)
    for path in export_paths(settings, run.path):
        prepare_output(path, format="slt")
        files.probe(path.parent)


def export_paths(settings: PretrainSettings, run: Path) -> list[Path]:
    """The files of weights that a run in the folder `run` exports at its end."""
    outputs = [settings.export_backbone] if settings.export_backbone is not None else []
    return [*outputs, _encoder_path(settings, run)] if settings.export_checkpoint else outputs


def _has_registers(settings: PretrainSettings) -> bool:
    return settings.vit.registers not in (0, "auto")  # a dry run that cannot settle them asks all the same


def export_warning(settings: PretrainSettings) -> str:
    """What a later export to SLT would be refused for; empty where nothing is, or where one is refused now."""
    is_asked_for = settings.export_backbone is not None or settings.export_checkpoint
    return _NO_REGISTERS if _has_registers(settings) and not is_asked_for else ""


def export_problems(settings: PretrainSettings, run: Path) -> list[SltDinoError]:
    """Everything for which the exports would be refused, found without writing.

    A SettingsError: SLT's network cannot hold this backbone, or both exports are one file. A RunFolderError: an export
    would replace a file of the run, or one that no export wrote.
    """
    outputs = export_paths(settings, run)
    problems: list[SltDinoError] = []
    if _has_registers(settings) and outputs:
        problems.append(SettingsError(f"--vit-registers: {_NO_REGISTERS}; use 0, or leave the exports out"))
    if len(outputs) == 2 and outputs[0].resolve() == outputs[1].resolve():
        problems.append(SettingsError(f"--output-path: {outputs[1]} is also --export-backbone; choose another name"))
    for path in outputs:
        try:
            refuse_output(path, format="slt", run=run, names=settings.checkpointing)
            if path == settings.export_backbone:
                refuse_replacement(path, format="slt")
        except SltDinoError as problem:
            problems.append(problem)
    return problems


def write_exports(session: Session, run: RunDir, progress: dict[str, Any], reporter: Reporter) -> None:
    """Write `export_backbone` and `export_checkpoint`, from the teacher as it is now, and register them."""
    settings = session.settings
    if settings.export_backbone is None and not settings.export_checkpoint:
        return
    network = session.trainer.model.teacher.backbone.cpu()
    backbone = trained_backbone(network, settings, progress, checkpoint=run.last)
    if settings.export_backbone is not None:
        report = write_backbone(backbone, format="slt", out=settings.export_backbone)
        run.register_artifact(report.path, name=artifact_name("slt"), metadata=artifact_metadata(backbone, report))
        reporter.say(f"exported {report.path} for SLT; largest error of its features: {report.max_relative_error:.1e}")
    if settings.export_checkpoint:
        out = _encoder_path(settings, run.path)
        _write_encoder(out, slt_state_dict(backbone), backbone.metadata)
        run.register_artifact(out, name="encoder_state_dict", metadata=_brief(backbone.metadata))
        reporter.say(f"exported the encoder's state dict to {out}")


def _encoder_path(settings: PretrainSettings, run: Path) -> Path:
    stream = settings.stream.replace("/", "_")  # any text is a stream's name, but not a file's
    return settings.output_path or run / f"{stream}_encoder_state.pt"


def _write_encoder(path: Path, state_dict: dict[str, torch.Tensor], metadata: dict[str, Any]) -> None:
    """The layout of the old scripts: run facts at the top, the network's shape under `metadata`."""
    facts = {key: value for key, value in metadata.items() if key != "backbone" and value is not None}
    prepare_output(path, format="slt")
    with files.new_file(path) as file:
        torch.save({**facts, "state_dict": state_dict, "metadata": metadata["backbone"]}, file)


def _brief(metadata: dict[str, Any]) -> dict[str, Any]:
    return {key: metadata[key] for key in ("stream", "best_loss", "epochs")}
