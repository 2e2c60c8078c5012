"""The spelling of the old `tools/` scripts: `--train-dir a b c`, and unique prefixes of long flags."""

import re
from collections.abc import Sequence

from sltdino.core.settings_schema import LEAVES
from sltdino.errors import SettingsError

_OLD_FLAGS = """
    --config --train-dir --output-dir --algorithm --epochs --batch-size --num-workers --learning-rate --weight-decay
    --warmup-epochs --teacher-momentum-base --teacher-momentum-final --clip-grad-norm --out-dim --head-hidden-dim
    --patch-out-dim --patch-mask-ratio --patch-loss-weight --student-temp --teacher-temp --center-momentum --seed
    --device --resume --export-backbone --log-interval --image-size --patch-size --vit-embed-dim --vit-depth
    --vit-num-heads --vit-mlp-ratio --global-crops --num-local-crops --local-crop-size --global-crop-scale
    --local-crop-scale --stream --no-dataset-shuffle --dataset-pin-memory --dataset-persistent-workers --aug-brightness
    --aug-contrast --aug-saturation --aug-hue --aug-color-jitter-prob --aug-grayscale-prob --aug-gaussian-blur-prob
    --aug-solarize-prob --aug-hflip-prob --aug-mean --aug-std --checkpoint-best-name --checkpoint-last-name
    --checkpoint-history-file --experiment-name --experiment-notes --experiment-tag --pseudo-epochs --use-sinkhorn
    --sinkhorn-eps --sinkhorn-iters --koleo-weight --koleo-epsilon --export-checkpoint --output-path --help
""".split()  # noqa: SIM905
"""Frozen: a prefix that was unique among these keeps its meaning, however many flags are added."""

_NEGATIVE = re.compile(r"-\d+|-\d*\.\d+")


def translate(argv: Sequence[str]) -> list[str]:
    """Arguments of an old script as `sltdino pretrain` takes them. Values are never touched.

    Raises:
        SettingsError: a prefix fits several flags.
    """
    lengths = _lengths()
    rest, translated = list(argv), list[str]()
    while rest:
        name, equals, value = rest.pop(0).partition("=")
        if not name.startswith("--") or name == "--":
            translated.append(name + equals + value)
            continue
        name = _completed(name, lengths)
        length = lengths.get(name, 0)
        if equals or length == 0:
            translated.append(name + equals + value)
        elif length is not None:
            translated += [name, *rest[:length]]
            del rest[:length]
        else:
            values = _values(rest)
            del rest[: len(values)]
            translated += [item for value in values for item in (name, value)] or [name]
    return translated


def _lengths() -> dict[str, int | None]:
    """How many values each flag takes; None for any number."""
    switches = ("--help", "--debug", "--dry-run", "--json", "--print-config", "--quiet", "-q", "--verbose", "-v")
    lengths: dict[str, int | None] = {"--config": 1, "--set": 1, **dict.fromkeys(switches, 0)}
    for leaf in LEAVES:
        lengths[leaf.flag] = 0 if leaf.is_switch else leaf.length
        if leaf.is_switch:
            lengths[leaf.flag.replace("--", "--no-", 1)] = 0
    return lengths


def _completed(prefix: str, known: dict[str, int | None]) -> str:
    if prefix in known:
        return prefix
    if "--config".startswith(prefix):
        return "--config"  # a parser of its own looked for it first: there, `--c` was unique
    for names in (_OLD_FLAGS, list(known)):
        fitting = [name for name in names if name.startswith(prefix)]
        if len(fitting) > 1:
            raise SettingsError(f"{prefix}: could be {', '.join(fitting[:8])}; write it in full")
        if fitting:
            return fitting[0]
    return prefix  # unknown, which Typer says better


def _values(rest: Sequence[str]) -> list[str]:
    """As argparse counts them: up to the next flag."""
    end = next((index for index, item in enumerate(rest) if _is_flag(item)), len(rest))
    return list(rest[:end])


def _is_flag(item: str) -> bool:
    """argparse takes negative numbers, and what has a space in its name, for values."""
    name = item.partition("=")[0]
    return len(item) > 1 and item.startswith("-") and " " not in name and not _NEGATIVE.fullmatch(item)
