"""How an evaluation was made, in words, and what its numbers say less about than it seems."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from sltdino.evaluation.bootstrap import REPLICATES
from sltdino.evaluation.cross_validation import folds
from sltdino.evaluation.features import Pixels
from sltdino.evaluation.few_shot import DRAWS
from sltdino.evaluation.labelled import LabelledImages
from sltdino.evaluation.scores import TRAINED, Score

_FEW_GROUPS = 10
"""Below it a cluster bootstrap's intervals are clearly too narrow (Cameron, Gelbach and Miller 2008)."""
_TOKENS = {"cls": "CLS token", "mean": "mean of the patch tokens", "both": "CLS token and mean of the patch tokens"}
_ONE_POINT = 0.05  # as the health watch has it


class Asked(Protocol):
    """The options that a protocol tells of."""

    @property
    def k(self) -> tuple[int, ...]: ...
    @property
    def temp(self) -> float: ...
    @property
    def solver(self) -> str: ...
    @property
    def tokens(self) -> str: ...


def protocol(data: LabelledImages, options: Asked, pixels: Pixels, shots: Sequence[int]) -> str:
    """What was compared with what, and how."""
    val = f"{len(data.val.paths):,} validation images"
    sides = f"{val} against {len(data.train.paths):,} training images"
    by_folds = ""
    if data.one_sided:
        others = "those of other groups" if data.val.groups_N is not None else "all the others"
        sides = f"{val}, each judged by {others},"
        unit = "groups" if data.val.groups_N is not None else "images"
        by_folds = f", cross-validated in {len(folds(data.val))} folds of {unit}"
    few = f"few-shot k-NN with {', '.join(map(str, shots))} labelled images of each class (mean of {DRAWS} draws"
    return "; ".join((
        f"{sides} at {pixels.size} px, {_TOKENS[options.tokens]}",
        f"weighted {', '.join(f'{k}-NN' for k in options.k)} (cosine, temperature {options.temp:g})",
        f"linear probe on standardised features ({options.solver}; L2 chosen on a fifth of the training "
        f"{'groups' if data.train.num_groups > 1 else 'images'}{by_folds})",
        *([f"{few}{by_folds})"] if shots else []),
        f"95% intervals: bootstrap over {_unit(data)} ({REPLICATES:,} replicates)",
    ))  # fmt: skip


def warnings(data: LabelledImages, *, ks: Sequence[int]) -> Iterator[str]:
    """What is known before anything is judged."""
    bank = len(data.train.paths) - data.one_sided
    if more := [k for k in ks if k > bank]:
        whose = "other validation images" if data.one_sided else "training images"
        yield f"k = {', '.join(map(str, more))}: all {bank:,} {whose} vote; there are no more"
    if data.one_sided and data.val.groups_N is None:
        yield (
            "each image is judged by all the others: copies, frames of one clip and photos of one signer judge each "
            "other, unless --group-regex keeps them apart"
        )
    if data.val.num_groups == 1:
        yield "intervals: the validation images are of one group, so they are by image and too narrow"
    elif 1 < data.val.num_groups < _FEW_GROUPS:
        yield f"intervals: {data.val.num_groups} groups are few, so they are too narrow"


def afterthoughts(data: LabelledImages, scores: Sequence[Score], *, spread: float) -> Iterator[str]:
    """What the figures themselves do not say.

    Args:
        spread: `feature_std` of the trained features.
    """
    if spread < _ONE_POINT:
        yield f"the {TRAINED} features are nearly the same for every image (feature std {spread:.1g} of 1)"
    if any(score.accuracy in (0, 1) for score in scores):
        number = data.val.num_groups if data.val.num_groups > 1 else len(data.val.paths)
        # exact where none of n is mistaken: (1 - p)^n = 0.05, nearly 3 / n (Hanley and Lippman-Hand 1983)
        most = 1 - 0.05 ** (1 / number)
        yield (
            f"an interval from 100 to 100, or from 0 to 0, is of what was seen: where all of {_unit(data)} fare alike, "
            f"up to {most:.1%} of others may not"
        )


def _unit(data: LabelledImages) -> str:
    return f"{data.val.num_groups} groups" if data.val.num_groups > 1 else f"{len(data.val.paths):,} images"
