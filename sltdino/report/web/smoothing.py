"""Lines through points that waver, and a few of many points."""

from collections.abc import Sequence

from sltdino.report.history import Point

_WINDOW = 0.06  # of the points: half the width of the smoothing window


def smoothed(points: Sequence[Point]) -> list[tuple[float, float]]:
    """Steps and the values of straight lines fitted around each, to 13 % of the points, the near ones counting more.

    Cleveland, "Robust locally weighted regression and smoothing scatterplots" (1979), without its robust passes. Unlike
    a mean it does not lag, nor flatten the beginning and the end.
    """
    half = max(1, round(len(points) * _WINDOW))
    return [
        (point.step, _fit(points[max(0, at - half) : at + half + 1], point.step)) for at, point in enumerate(points)
    ]


def _fit(points: Sequence[Point], step: float) -> float:
    """The value at `step` of a line through the points, by weighted least squares."""
    reach = 1.001 * max(abs(point.step - step) for point in points) or 1.0
    weights = [(1 - (abs(point.step - step) / reach) ** 3) ** 3 for point in points]
    total = sum(weights)
    mean_x = sum(weight * (point.step - step) for weight, point in zip(weights, points, strict=True)) / total
    mean_y = sum(weight * point.value for weight, point in zip(weights, points, strict=True)) / total
    away = [(weight, point.step - step - mean_x, point.value) for weight, point in zip(weights, points, strict=True)]
    spread = sum(weight * x * x for weight, x, _ in away)
    slope = sum(weight * x * (y - mean_y) for weight, x, y in away) / spread if spread else 0.0
    return mean_y - slope * mean_x


def thinned(points: Sequence[Point], most: int) -> list[Point]:
    """At most so many of the points, evenly spread, the first and the last among them."""
    if len(points) <= most:
        return list(points)
    return [points[round(at * (len(points) - 1) / (most - 1))] for at in range(most)]
