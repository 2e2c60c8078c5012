"""The use cases pretrain, resume and dry_run: all the wiring. Nothing else knows the settings of a whole run."""

from sltdino.pretraining.preview import dry_run
from sltdino.pretraining.preview_facts import DryRun
from sltdino.pretraining.run import RunSummary, pretrain, resume

__all__ = ["DryRun", "RunSummary", "dry_run", "pretrain", "resume"]
