"""The use cases pretrain, resume and dry_run: all the wiring. Nothing else knows the settings of a whole run."""

from sltdino.pretraining.outcome import RunSummary
from sltdino.pretraining.preview import dry_run
from sltdino.pretraining.preview_facts import DryRun
from sltdino.pretraining.run import pretrain, resume
from sltdino.pretraining.start import planned_settings

__all__ = ["DryRun", "RunSummary", "dry_run", "planned_settings", "pretrain", "resume"]
