"""The section that shows patch features as colours."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sltdino.evaluation.components import Components, principal_components
from sltdino.report.pictures.captions import how_to_read
from sltdino.report.pictures.raster import picture, repeated
from sltdino.report.pictures.source import Source
from sltdino.report.web.html import Html, table

_FITTED, _SHOWN, _BATCH = 32, 7, 8
_SIDE = 96  # CSS pixels
_RANGE = (0.02, 0.98)  # quantiles brought to 0 and 1: outliers would leave the rest grey


def patches(source: Source) -> list[Html]:
    """The first images of the sample, and the first three components of their patch features as red, green and blue:
    of all patches together, and once each image's own mean is taken out."""
    inputs = source.inputs(_FITTED)
    with torch.inference_mode():
        features_BND = torch.cat(
            [source.network.forward_features(part).patches_BND for part in torch.split(inputs, _BATCH)]
        )
    together = principal_components(features_BND.flatten(0, 1), 3)
    within_BND = features_BND - features_BND.mean(dim=1, keepdim=True)
    within = principal_components(within_BND.flatten(0, 1), 3)
    shown = source.shown(inputs[:_SHOWN])
    names = [source.name(index) for index in range(len(shown))]
    rows = [
        ["image", *(picture(pixels, alt=name, side=_SIDE) for pixels, name in zip(shown, names, strict=True))],
        ["all patches together", *_maps(together, len(inputs), names, "Patch features of")],
        ["without each image's mean", *_maps(within, len(inputs), names, "Patch features, without their mean, of")],
    ]
    caption = "Patch features as colours"
    return [
        _how_to_read(source, together, within, between=between_images(features_BND)),
        table(["", *names], rows, caption=caption),
    ]


def scaled(scores_MC: NDArray[np.floating]) -> NDArray[np.floating]:
    """Each column brought to 0..1 by its 2nd and 98th percentile; three columns, those missing or constant 0.5."""
    low, high = np.quantile(scores_MC, _RANGE, axis=0)
    span = high - low
    unit = np.where(span > 0, (scores_MC - low) / np.where(span > 0, span, 1), 0.5).clip(0, 1)
    return np.pad(unit, ((0, 0), (0, 3 - unit.shape[1])), constant_values=0.5)


def between_images(features_BND: Tensor) -> float:
    """The share of the patches' variance that lies between the means of the images; 0 where nothing varies."""
    mean_D = features_BND.flatten(0, 1).mean(dim=0)
    total = (features_BND - mean_D).square().sum()
    between = (features_BND.mean(dim=1) - mean_D).square().sum() * features_BND.shape[1]
    return float(between / total) if total > 0 else 0.0


def _maps(components: Components, num_images: int, names: list[str], what: str) -> list[Html]:
    """A picture for each of the named images, which come first."""
    colours = (scaled(components.scores_MC.numpy()) * 255).round().astype(np.uint8)
    grid = round((len(colours) / num_images) ** 0.5)
    return [
        picture(repeated(pixels, _SIDE), alt=f"{what} {name} as colours", side=_SIDE)
        for pixels, name in zip(colours.reshape(num_images, grid, grid, 3), names, strict=False)
    ]


def _how_to_read(source: Source, together: Components, within: Components, *, between: float) -> Html:
    shares, shares_within = (
        " + ".join(f"{share:.0%}" for share in components.shares_C.tolist()) for components in (together, within)
    )
    return how_to_read(
        "Parts of an image (patches) that the network finds alike have one colour; which colour it is means nothing. "
        "The last row leaves out what sets one whole image off from another.",
        good="one part (fingers, palm, eyes, mouth, background) has one colour in different images.",
        bad="the same colours in the same places whatever is there (positions were learned); a colour of its own for "
        "each image even in the last row; colours that only follow light and shadow.",
        made="Red, green and blue are the first three principal components of the patch features (after the last "
        f"norm, {source.network_name}) of {min(_FITTED, len(source.sample.paths))} images together, with {shares} of "
        f"their variance; the rest is not in the picture. {between:.0%} of the variance lies between the means of the "
        f"images, so the last row takes each image's mean out first ({shares_within} of what is left). Each component "
        "runs from its 2nd to its 98th percentile.",
    )
