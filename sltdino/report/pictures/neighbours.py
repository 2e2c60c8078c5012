"""The section that shows which images the network finds alike."""

from collections.abc import Sequence

import torch
from torch import Tensor

from sltdino.evaluation.knn import Neighbours
from sltdino.evaluation.neighbours import agreement, agreement_by_chance, nearest_allowed
from sltdino.report.pictures.captions import how_to_read
from sltdino.report.pictures.raster import picture
from sltdino.report.pictures.source import Source
from sltdino.report.text.page import short
from sltdino.report.web.html import Html, element, join, paragraph, table

_QUERIES, _NEIGHBOURS = 6, 5
_SIDE = 80  # CSS pixels
_NAME_WIDTH = 24


def neighbours(source: Source) -> list[Html]:
    """The first images of the sample with their nearest others, and how many of these have the same label."""
    sample, num_images = source.sample, len(source.sample.paths)
    if num_images < 2:
        return [paragraph(f"Not shown: {source.sample_name} is one image, which has no neighbours.")]
    kinds = {"all others": ~torch.eye(num_images, dtype=torch.bool)}
    if source.groups.name:
        groups = _numbered(source.groups.of)
        kinds[f"other {source.groups.name}s"] = groups[:, None] != groups
    found = {
        kind: nearest_allowed(sample.features_MD, k=_NEIGHBOURS, allowed_MM=allowed) for kind, allowed in kinds.items()
    }
    rows = [row for query in range(min(_QUERIES, num_images)) for row in _rows(source, query, found)]
    columns = ["image", *(["nearest of"] if len(kinds) > 1 else []), *map(str, range(1, _NEIGHBOURS + 1))]
    labelled = len(set(sample.labels)) > 1
    return [
        _how_to_read(source, labelled=labelled),
        *([_counted(source, found, kinds)] if labelled and all(sample.labels) else []),
        table(columns, rows, caption="Nearest neighbours by cosine of CLS features"),
    ]


def _numbered(groups: Sequence[str]) -> Tensor:
    """A number for each group; an image whose group is unknown is one of its own."""
    numbers: dict[str, int] = {}
    return torch.tensor(
        [numbers.setdefault(group, len(numbers)) if group else -1 - i for i, group in enumerate(groups)]
    )


def _rows(source: Source, query: int, found: dict[str, Neighbours]) -> list[list[object]]:
    """A row for each kind of neighbours; one for both where they are the same."""
    kinds = list(found)
    if all(torch.equal(found[kind].index_Bk[query], found[kinds[0]].index_Bk[query]) for kind in kinds):
        kinds = kinds[:1]
        said = {kinds[0]: "both" if len(found) > 1 else kinds[0]}
    else:
        said = {kind: kind for kind in kinds}
    name, group = source.name(query), source.groups.of[query]
    [pixels] = source.shown(torch.stack([source.pixels.load(source.sample.paths[query])]))
    shown = picture(pixels, alt=name, side=_SIDE)
    told = [element("small", line) for line in (name, short(group, _NAME_WIDTH)) if line]
    about = join([shown, join(told, element("br"))])
    rows: list[list[object]] = []
    for kind in kinds:
        row = zip(found[kind].index_Bk[query].tolist(), found[kind].similarity_Bk[query].tolist(), strict=True)
        cells = [_neighbour(source, query, number, cosine) for number, cosine in row]
        rows.append([about, *([said[kind]] if len(found) > 1 else []), *cells])
    return rows


def _neighbour(source: Source, query: int, number: int, cosine: float) -> Html | None:
    """One neighbour with what is known of it; right and wrong are said in words and by a sign of its own."""
    if number < 0:
        return None
    sample, groups = source.sample, source.groups
    label, wanted = sample.labels[number], sample.labels[query]
    lines = [f"cosine {cosine:.2f}"]
    if label or wanted:
        lines.insert(0, f"{'✓ same' if label == wanted else '✗ other'}: {short(label or 'none', _NAME_WIDTH)}")
    if groups.of[number]:
        same = groups.of[number] == groups.of[query]
        lines.append(f"same {groups.name}" if same else short(groups.of[number], _NAME_WIDTH))
    [pixels] = source.shown(torch.stack([source.pixels.load(sample.paths[number])]))
    text = join([element("small", line) for line in lines], element("br"))
    return join([picture(pixels, alt=f"{source.name(number)}: {', '.join(lines)}", side=_SIDE), text])


def _counted(source: Source, found: dict[str, Neighbours], kinds: dict[str, Tensor]) -> Html:
    """How many neighbours of the whole sample have the right label, and how many would by chance."""
    names = sorted(set(source.sample.labels))
    labels = torch.tensor([names.index(label) for label in source.sample.labels])
    shares = [
        f"{agreement(found[kind], labels):.0%} of the {_NEIGHBOURS} nearest of {kind} "
        f"(by chance {agreement_by_chance(labels, allowed_MM=allowed):.0%})"
        for kind, allowed in kinds.items()
    ]
    return paragraph(f"Over all {len(labels):,} images, the same label as the image have {' and '.join(shares)}.")


def _how_to_read(source: Source, *, labelled: bool) -> Html:
    what = "For a few images, the others that the network finds most alike: what k-NN votes with. "
    what += "✓ and ✗ say whether a neighbour has the image's label." if labelled else "These images have no labels."
    if source.groups.name:
        what += (
            f" Images of one {source.groups.name} resemble one another whatever they mean, so a second row leaves the "
            f"image's own {source.groups.name} out; where that changes nothing, one row stands for both."
        )
    return how_to_read(
        what,
        good="neighbours share the handshape or the expression, although person, light and background differ.",
        bad="neighbours that share only the person, the light or the background; the same few images everywhere; "
        "cosines of 0.99 and more throughout (the features hardly differ: collapse).",
        made=f"The highest cosines of CLS features of {source.network_name}, among {source.sample_name}. Images are "
        "shown as the network gets them.",
    )
