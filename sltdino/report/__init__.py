"""What a run folder says about the run."""
