"""The section that maps the features of a run's images in two dimensions, coloured by label and by signer or clip."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray

from sltdino.evaluation.components import principal_components
from sltdino.evaluation.tsne import trustworthiness, tsne, usable_perplexity
from sltdino.report.pictures.captions import how_to_read
from sltdino.report.pictures.scatter import marks_of, scatter
from sltdino.report.pictures.source import Source
from sltdino.report.web.html import Html, figure, paragraph

_FEWEST = 8  # images
_COMPONENTS = 30
_NEIGHBOURS = 10  # that the map's trustworthiness is judged by
_LABELS, _GROUPS = 20, 30  # told apart, at most


class FeatureMap(NamedTuple):
    """Where each image lies, and how far that can be trusted."""

    places_M2: NDArray[np.float64]
    perplexity: float
    num_components: int
    share: float
    """Of the features' variance in the components that the map was made from."""
    trust: float
    num_neighbours: int
    """That `trust` was measured with."""


def feature_map(source: Source) -> list[Html]:
    """The sample's features as a t-SNE map, coloured by label where there are labels, and by signer or clip."""
    sample, groups = source.sample, source.groups
    if len(sample.paths) < _FEWEST:
        return [paragraph(f"Not shown: a map needs {_FEWEST} images, and there are {len(sample.paths)}.")]
    placed = _place(source)
    if placed is None:
        return [paragraph("Not shown: all images have one and the same feature (one-point collapse).", kind="bad")]
    drawings = []
    if len(set(sample.labels)) > 1:
        drawings.append(_drawing(source, placed, sample.labels, what="label", most=_LABELS))
    if groups.name:
        drawings.append(_drawing(source, placed, groups.of, what=groups.name, most=_GROUPS))
    return [_how_to_read(source, placed), *(drawings or [_drawing(source, placed, sample.labels, what="", most=0)])]


def _place(source: Source) -> FeatureMap | None:
    """The map; none of features that do not differ."""
    features = F.normalize(source.sample.features_MD.float(), dim=-1)
    components = principal_components(features, _COMPONENTS)
    points = components.scores_MC.numpy()
    if not np.unique(features.numpy(), axis=0).shape[0] > 1:
        return None
    perplexity, num_neighbours = usable_perplexity(len(points)), min(_NEIGHBOURS, (len(points) - 1) // 3)
    places = tsne(points, perplexity=perplexity)
    trust = trustworthiness(features.numpy(), places, num_neighbours=num_neighbours)
    share = float(components.shares_C.sum())
    return FeatureMap(places, perplexity, points.shape[1], share, trust, num_neighbours)


def _drawing(source: Source, placed: FeatureMap, names: Sequence[str], *, what: str, most: int) -> Html:
    marks = marks_of(names, most=most)
    titles = [source.name(row) + (f", {group}" if group else "") for row, group in enumerate(source.groups.of)]
    coloured = f", coloured by {what}" if what else ""
    svg = scatter(
        placed.places_M2,
        names,
        marks=marks,
        titles=titles,
        alt=f"Map of the features of {len(names)} images{coloured}; {len(marks)} are told apart",
        written=what == "label",
    )
    number = len(set(filter(None, names)))
    rest = f" The {len(marks)} commonest of {number} are told apart." if number > len(marks) and what else ""
    written = (
        " Each label is written at the mean of its images, or just below where two would overlap."
        if what == "label"
        else ""
    )
    caption = f"Coloured by {what}.{rest}{written}" if what else "Without labels, all marks are alike."
    return figure(svg, caption)


def _how_to_read(source: Source, placed: FeatureMap) -> Html:
    return how_to_read(
        "A mark is an image; images that the network finds alike lie together. Near means alike; distances between "
        "groups, their sizes and the axes mean nothing. Point at a mark to see its file.",
        good="islands of one label, and signers or clips mixed within them.",
        bad="labels mixed everywhere, or islands of one signer or clip: the features tell who or which video it is.",
        made=f"By t-SNE (perplexity {placed.perplexity:.0f}) of {source.sample_name}, from the first "
        f"{placed.num_components} principal components ({placed.share:.0%} of the variance) of the CLS features at "
        f"length 1 of {source.network_name}. Trustworthiness {placed.trust:.2f}, from about 0.5 (neighbours on the map "
        f"are chance) to 1 (the {placed.num_neighbours} nearest on the map are the nearest in truth).",
    )
