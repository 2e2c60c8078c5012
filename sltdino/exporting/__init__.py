"""Backbones for other software."""
