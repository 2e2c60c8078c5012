"""The section that shows patch features as colours."""

import numpy as np
import torch
from numpy.typing import NDArray

from sltdino.evaluation.components import Components, principal_components
from sltdino.report.captions import how_to_read
from sltdino.report.colours import heat
from sltdino.report.html import Html, table
from sltdino.report.picture_source import Source
from sltdino.report.raster import picture, repeated

_FITTED, _SHOWN, _BATCH = 32, 7, 8
_SIDE = 96  # CSS pixels
_RANGE = (0.02, 0.98)  # quantiles brought to 0 and 1: outliers would leave the rest grey


def patches(source: Source) -> list[Html]:
    """The first images of the sample, their patch features' first three components as red, green and blue, and the
    first one alone."""
    inputs = source.inputs(_FITTED)
    with torch.inference_mode():
        features_BND = torch.cat(
            [source.network.forward_features(part).patches_BND for part in torch.split(inputs, _BATCH)]
        )
    num_images, num_patches, width = features_BND.shape
    grid = round(num_patches**0.5)
    components = principal_components(features_BND.reshape(-1, width), 3)
    colours = scaled(components.scores_MC.numpy()).reshape(num_images, grid, grid, -1)
    first, mixed = heat(colours[..., 0]), (colours * 255).round().astype(np.uint8)
    shown = source.shown(inputs[:_SHOWN])
    names = [source.name(index) for index in range(len(shown))]
    rows = [
        ["image", *(picture(pixels, alt=name, side=_SIDE) for pixels, name in zip(shown, names, strict=True))],
        ["components 1, 2, 3", *_maps(mixed, names, "First three components of the patches of")],
        ["component 1", *_maps(first, names, "First component of the patches of")],
    ]
    caption = "Patch features as colours"
    return [
        _how_to_read(source, components, num_images),
        table(["", *names], rows, caption=caption),
    ]


def scaled(scores_MC: NDArray[np.floating]) -> NDArray[np.floating]:
    """Each column brought to 0..1 by its 2nd and 98th percentile; three columns, those missing or constant 0.5."""
    low, high = np.quantile(scores_MC, _RANGE, axis=0)
    span = high - low
    unit = np.where(span > 0, (scores_MC - low) / np.where(span > 0, span, 1), 0.5).clip(0, 1)
    return np.pad(unit, ((0, 0), (0, 3 - unit.shape[1])), constant_values=0.5)


def _maps(colours: NDArray[np.uint8], names: list[str], what: str) -> list[Html]:
    return [
        picture(repeated(pixels, _SIDE), alt=f"{what} {name}", side=_SIDE)
        for pixels, name in zip(colours, names, strict=False)
    ]


def _how_to_read(source: Source, components: Components, num_images: int) -> Html:
    shares, total = components.shares_C.tolist(), float(components.shares_C.sum())
    return how_to_read(
        "Patches of one colour have like features. Red, green and blue are the three directions in which the patch "
        f"features (after the last norm, {source.network_name}) of {num_images} images together differ most, with "
        f"{' + '.join(f'{share:.0%}' for share in shares)} of their variance; the other {1 - total:.0%} is not in the "
        "picture. Each runs from its 2nd to its 98th percentile, and which end is bright means nothing. The last row "
        "has the first direction alone, from dark blue to yellow.",
        good="one part (fingers, palm, eyes, mouth, background) has one colour in different images.",
        bad="the same colours in the same places whatever is there (positions were learned); a colour of its own for "
        "each photo (its light or its person was learned, not its parts); colours that only follow light and shadow.",
    )
