"""The scale of colours is one of lightness too."""

import re
from importlib import resources

import numpy as np
import pytest
from numpy.typing import NDArray

from sltdino.report.pictures.colours import heat


def lightness(rgb: NDArray[np.floating]) -> NDArray[np.float64]:
    """CIE L* of sRGB in 0..255."""
    values = np.asarray(rgb) / 255
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array((0.2126, 0.7152, 0.0722))
    return np.where(luminance > 216 / 24389, 116 * np.cbrt(luminance) - 16, luminance * 24389 / 27)


def test_lightness_rises_evenly_from_dark_to_bright() -> None:
    levels = lightness(heat(np.linspace(0, 1, 256)))
    assert levels[0] < 10
    assert levels[-1] > 88
    steps = np.diff(levels[::15])
    assert steps.min() > 0.6 * steps.mean()
    assert steps.max() < 1.5 * steps.mean()


def test_what_lies_beyond_the_scale_has_its_ends() -> None:
    assert np.array_equal(heat(np.array([-3.0, 7.0])), heat(np.array([0.0, 1.0])))
    assert heat(np.zeros((2, 3))).shape == (2, 3, 3)


@pytest.mark.parametrize("dark", [False, True])
def test_marks_stand_out_from_the_page(dark: bool) -> None:
    """4.5 to 1, as WCAG asks of text: names on the map have the colours too."""
    style = resources.files("sltdino.report.web").joinpath("page.css").read_text("utf-8")
    colours = dict(re.findall(r"--(k\d|paper): (#\w{6});", style.split("@media", 2)[int(dark)]))
    assert len(colours) == 8
    paper = luminance(colours.pop("paper"))
    for name, colour in colours.items():
        low, high = sorted((paper, luminance(colour)))
        assert (high + 0.05) / (low + 0.05) > 4.5, name


def luminance(colour: str) -> float:
    level = lightness(np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)]))
    return float(((level + 16) / 116) ** 3)
