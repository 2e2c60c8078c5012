"""The use cases pretrain and resume: all the wiring. Nothing else knows the settings of a whole run."""

from sltdino.pretraining.run import RunSummary, pretrain, resume

__all__ = ["RunSummary", "pretrain", "resume"]
