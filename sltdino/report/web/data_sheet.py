"""The images that a run learned from: how many, how large, of which kinds, and which of them are of no use."""

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sltdino.core.rng import generator
from sltdino.core.run_files import read_bad_images
from sltdino.data.checking.quality import BLACK_LEVEL, CONSTANT_SPREAD, measure
from sltdino.data.decode import FORMATS, quiet
from sltdino.data.image_folder import ImageFolder
from sltdino.errors import SltDinoError
from sltdino.report.web.html import Html, Section, details, facts, join, paragraph, section, table
from sltdino.report.web.settings_table import code

_SAMPLE = 300
_MOST_BAD = 50
_COMMONEST = 5


def data_section(run: Path, params: Mapping[str, Any], images: Callable[[], ImageFolder]) -> Section:
    """The section about a run's images: what was counted at its start, then what lies in the folders now.

    Measures 300 images, the same ones each time, a second or two. What is gone is said to be.

    Args:
        images: lists those of the run, as `run_images` does.
    """
    recorded = params.get("images")
    recorded = recorded if isinstance(recorded, Mapping) else {}
    parts = [facts(_recorded(params, recorded))]
    try:
        parts += _now(images(), recorded)
    except (SltDinoError, OSError) as error:
        parts.append(paragraph(f"The images cannot be looked at now: {error}.", kind="warn"))
    return section("data", "Data sheet", *parts, _bad_images(run))


def _recorded(params: Mapping[str, Any], recorded: Mapping[str, Any]) -> list[tuple[str, object]]:
    excluded, others = recorded.get("excluded"), recorded.get("other_formats")
    settings = params.get("settings")
    evaluation = settings.get("evaluation") if isinstance(settings, Mapping) else None
    val_dir = evaluation.get("val_dir") if isinstance(evaluation, Mapping) else None
    left_out = f"{excluded.get('count')}, by {excluded.get('list')}" if isinstance(excluded, Mapping) else None
    return [
        ("images at the start", recorded.get("count")),
        ("training folders", join(map(code, _texts(params.get("train_dirs"))), ", ")),
        ("validation folder", code(val_dir) if val_dir else None),
        ("excluded", left_out),
        ("files of other formats", _counted(others) if isinstance(others, Mapping) and others else None),
        ("fingerprint of the listing", code(recorded["fingerprint"]) if "fingerprint" in recorded else None),
    ]


def _now(images: ImageFolder, recorded: Mapping[str, Any]) -> list[Html]:
    parts = [_change(images, recorded)]
    if len(images.labels) > 1:
        parts.append(_labels(images))
    return [*parts, *_sample(images)]


def _change(images: ImageFolder, recorded: Mapping[str, Any]) -> Html:
    if "fingerprint" not in recorded:
        return paragraph(f"There are {len(images):,} images in these folders now.")
    if images.fingerprint == recorded["fingerprint"]:
        return paragraph("The folders hold the same files as at the start, by their names and sizes.")
    text = f"The folders have changed since the start: they hold {len(images):,} images now."
    return paragraph(text, kind="warn")


def _labels(images: ImageFolder) -> Html:
    counts = dict.fromkeys(images.labels, 0)
    for index in range(len(images)):
        counts[images.label(index)] += 1
    rows = [[label, count, f"{count / len(images):.1%}"] for label, count in counts.items()]
    content = table(["sub-folder", "images", "share"], rows, caption="Images by sub-folder, which training never sees")
    fewest, most = min(counts.values()), max(counts.values())
    return details(f"{len(counts)} sub-folders, of {fewest:,} to {most:,} images", content, printed=True)


def _sample(images: ImageFolder) -> list[Html]:
    """What a fixed sample looks like, file by file."""
    chosen = sorted(generator(0, "data sheet").permutation(len(images))[:_SAMPLE].tolist())
    paths = [images.path(index) for index in chosen]
    with quiet():
        seen = measure(paths)
    good = seen.images[~seen.images["bad"]]
    black, constant = good["bright"] <= BLACK_LEVEL, good["spread"] <= CONSTANT_SPREAD
    kinds = _frequent([f"{FORMATS[image['format']]} {image['mode'].decode()}" for image in good])
    sizes = _frequent([f"{image['width']} × {image['height']}" for image in good])
    which = "All" if len(chosen) == len(images) else f"A fixed sample of {len(chosen):,}"
    rows: list[list[object]] = [
        ["kinds", kinds or None],
        ["sizes, width × height", sizes or None],
        ["shorter side", _range(good) if len(good) else None],
        ["file size", f"{sum(path.stat().st_size for path in paths) / len(paths) / 1000:.1f} kB on average"],
        ["mean of red, green, blue", _triple(good["mean"].mean(axis=0)) if len(good) else None],
        ["black", f"{int(black.sum()):,}"],
        ["of one colour", f"{int((constant & ~black).sum()):,}"],
        ["cannot be read", f"{len(seen.reasons):,}"],
    ]
    parts = [table(["what", "images"], rows, caption=f"{which} of {len(images):,} images")]
    named = [[code(paths[at]), reason] for at, reason in islice(seen.reasons.items(), _MOST_BAD)]
    named += [
        [code(paths[at]), "black" if image["bright"] <= BLACK_LEVEL else "of one colour"]
        for at, image in enumerate(seen.images)
        if not image["bad"] and (image["bright"] <= BLACK_LEVEL or image["spread"] <= CONSTANT_SPREAD)
    ][:_MOST_BAD]
    if named:
        parts.append(table(["file", "why"], named, caption="Of no use, in the sample"))
        parts.append(paragraph("`sltdino check` looks at all of them, and writes the list that --exclude reads."))
    return parts


def _bad_images(run: Path) -> Html:
    """Those that training met and could not read."""
    records = read_bad_images(run)
    rows, count = [], 0
    for count, record in enumerate(records, 1):
        if count <= _MOST_BAD:
            rows.append([code(record.get("path", "")), record.get("reason"), record.get("use")])
    if not rows:
        return paragraph("Training met no image that it could not read.")
    more = f", the first {_MOST_BAD} of {count:,}" if count > _MOST_BAD else ""
    return table(["file", "why", "for"], rows, caption=f"Images that training could not read{more}")


def _frequent(names: Sequence[str]) -> str:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    commonest = sorted(counts, key=lambda name: -counts[name])
    told = ", ".join(f"{counts[name]:,} of {name}" for name in commonest[:_COMMONEST])
    rest = len(commonest) - _COMMONEST
    return f"{told}, and {rest:,} others" if rest > 0 else told


def _range(good: Any) -> str:
    shorter = [min(int(image["width"]), int(image["height"])) for image in good]
    return f"{min(shorter):,} to {max(shorter):,} px, median {sorted(shorter)[len(shorter) // 2]:,}"


def _triple(values: Any) -> str:
    return ", ".join(f"{value:.3f}" for value in values.tolist())


def _counted(counts: Mapping[Any, Any]) -> str:
    return ", ".join(f"{count} {suffix or 'without suffix'}" for suffix, count in counts.items())


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []
