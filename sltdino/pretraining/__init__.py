"""The use cases pretrain and resume: all the wiring. Nothing else knows the settings of a whole run."""

from sltdino.pretraining.run import RunSummary, pretrain, resume
from sltdino.pretraining.start import planned_settings

__all__ = ["RunSummary", "planned_settings", "pretrain", "resume"]
