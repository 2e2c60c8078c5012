"""The section that shows where the CLS token of the last block looks, head by head."""

import numpy as np
from numpy.typing import NDArray

from sltdino.evaluation.attention import cls_attention
from sltdino.report.pictures.captions import how_to_read
from sltdino.report.pictures.colours import heat
from sltdino.report.pictures.raster import RGB, picture, repeated
from sltdino.report.pictures.source import Source
from sltdino.report.web.html import Html, element, figure, join, table

_IMAGES = 6
_SIDES, _ROW = (64, 104), 680  # CSS pixels: of a map, and of all the maps of an image
_DARKEST, _LIT = 0.25, 0.9  # light of a patch that nothing looks at; the quantile of those in full light
_BRIGHTEST = 0.99  # of the patches of an image, over all heads: one outlier would leave the rest dark
_BAR = (8, 160)


def attention(source: Source) -> list[Html]:
    """The first images of the sample, each with a map for every head."""
    inputs = source.inputs(_IMAGES)
    seen = cls_attention(source.network, inputs)
    num_heads, num_patches = seen.patches_BHN.shape[1:]
    evens = (seen.patches_BHN * num_patches).numpy()
    spreads, on_patches = seen.num_seen().numpy(), seen.on_patches_BH.numpy()
    side = min(max(_ROW // (num_heads + 2), _SIDES[0]), _SIDES[1])
    rows = []
    for index, shown in enumerate(source.shown(inputs)):
        name, brightest = source.name(index), float(np.quantile(evens[index], _BRIGHTEST))
        maps = [
            _map(evens[index, head], spreads[index, head], brightest, head, name, side) for head in range(num_heads)
        ]
        notes = [f"yellow: {brightest:.1f}×", f"patches: {on_patches[index].mean():.0%}"]
        lit = picture(_lit(shown, evens[index].mean(axis=0)), alt=f"{name}, lit where all heads look", side=side)
        rows.append([_noted(picture(shown, alt=name, side=side), name, *notes), lit, *maps])
    columns = ["image", "all heads", *(f"head {head + 1}" for head in range(num_heads))]
    return [
        _how_to_read(source, num_patches),
        _bar(),
        table(columns, rows, caption="Attention of the CLS token in the last block"),
    ]


def _map(even_N: NDArray[np.float32], spread: float, brightest: float, head: int, name: str, side: int) -> Html:
    """One head on one image."""
    grid = round(len(even_N) ** 0.5)
    row, column = divmod(int(even_N.argmax()), grid)
    alt = (
        f"Head {head + 1} on {name}: spread over {spread:.0f} of {len(even_N)} patches, strongest in row {row + 1}, "
        f"column {column + 1} of {grid} ({even_N.max():.1f} times even)"
    )
    pixels = repeated(heat(even_N.reshape(grid, grid) / brightest), side)
    return _noted(picture(pixels, alt=alt, side=side), f"{spread:.0f} of {len(even_N)}")


def _lit(pixels: RGB, even_N: NDArray[np.float32]) -> RGB:
    """The image, darker where less attention goes; the tenth of the patches with most of it is in full light."""
    grid = round(len(even_N) ** 0.5)
    light_N = np.clip(even_N / np.quantile(even_N, _LIT), 0, 1)
    light_HW = light_N.reshape(grid, grid).repeat(len(pixels) // grid, axis=0).repeat(len(pixels) // grid, axis=1)
    lit: RGB = (pixels * (_DARKEST + (1 - _DARKEST) * light_HW[..., None])).round().astype(np.uint8)
    return lit


def _noted(shown: Html, *notes: str) -> Html:
    return join([shown, join([element("small", note) for note in notes], element("br"))])


def _bar() -> Html:
    height, width = _BAR
    bar = heat(np.linspace(0, 1, width)[None].repeat(height, axis=0))
    scale = picture(bar, alt="Scale from dark blue to yellow", side=width)
    return figure(
        scale, "From none (dark blue) to the number under the image, in times an even look, or more (yellow)."
    )


def _how_to_read(source: Source, num_patches: int) -> Html:
    return how_to_read(
        "Which parts of an image the network looks at when it sums it up: a map for each of its heads. A square is a "
        "patch of the image, and yellow gets the most. Second comes the image, lit where all heads together look.",
        good="heads that pick out fingers, the outline of the hand, eyes or mouth, and that differ from one another.",
        bad="maps that are the same for every image, or light up at its borders or on one patch of background "
        f"(positions or background were learned); heads spread over nearly all {num_patches} patches (nothing is "
        "chosen yet).",
        made=f"Attention of the CLS token in the last block of {source.network_name}; nothing is smoothed. What goes "
        "to CLS itself and to registers is left out (under the image: how much is left) and the rest brought to a sum "
        f"of 1, so an even look gives each of the {num_patches} patches 1/{num_patches}. All heads of an image have "
        "one scale, with yellow from the 99th percentile of its patches on. Under a map: over how many patches, in "
        "effect, the head spreads.",
    )
