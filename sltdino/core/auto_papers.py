"""What in a paper's preset follows the batch and the length of the run; its other values stand in `PRESETS`."""

import math
from typing import NamedTuple


class Paper(NamedTuple):
    """The published run behind a preset."""

    base_rate: float
    """Peak learning rate of `base_images` a step."""
    base_images: int
    is_linear: bool
    """Whether the rate grows with the images per step, or with their square root."""
    images_seen: int = 0
    """In the whole run, where its epochs were no passes over the data; else 0."""
    images_per_step: int = 1024
    """Of the recipe's own runs."""

    def learning_rate(self, images_per_step: int) -> float:
        """The peak learning rate for a step of so many images."""
        share = images_per_step / self.base_images
        return self.base_rate * (share if self.is_linear else math.sqrt(share))

    def rule(self, images_per_step: int) -> str:
        """`learning_rate`, as people write it."""
        share = f"{images_per_step} images per step / {self.base_images}"
        return f"{self.base_rate:g} · {share if self.is_linear else f'sqrt({share})'}"


PAPERS = {
    "dino": Paper(5e-4, 256, is_linear=True),
    "ibot": Paper(5e-4, 256, is_linear=True),
    "dinov2": Paper(4e-3, 1024, is_linear=False),
    "signmusketeers": Paper(2e-4, 1024, is_linear=False, images_seen=100 * 100 * 1024),
}
"""By preset; one that is no paper's is not here."""

_EPOCHS = 100
"""Of a run in which the lengths below are those of the papers; they shrink with a shorter one."""
_LENGTHS = {
    ("optimizer", "warmup_epochs"): 10.0,
    ("loss", "teacher_temp_warmup_epochs"): 30.0,
    ("optimizer", "freeze_last_layer_epochs"): 1.0,
}


Rules = dict[tuple[str, str], tuple[float, str]]
"""From section and key to the value and what it follows from; nothing for a preset that is no paper's."""


def paper_rate(preset: str, *, images_per_step: int) -> Rules:
    """The peak learning rate."""
    if preset not in PAPERS:
        return {}
    paper = PAPERS[preset]
    rate = paper.learning_rate(images_per_step), f"preset {preset}, {paper.rule(images_per_step)}"
    return {("optimizer", "learning_rate"): rate}


def paper_lengths(preset: str, *, epochs: float) -> Rules:
    """What is counted in epochs."""
    if preset not in PAPERS:
        return {}
    share = min(1.0, epochs / _EPOCHS)
    shrunk = f" of {_EPOCHS}, in proportion for {epochs:g}" if share < 1 else ""
    return {
        key: (round(length * share, 6), f"preset {preset}, {length:g} epoch{'s' * (length != 1)}{shrunk}")
        for key, length in _LENGTHS.items()
    }
