"""The training step and what decides its hyper-parameters."""
