"""What netem's dice do: values from values, nothing else."""

from __future__ import annotations

from typing import Final

_CELLS: Final = 1024
_ROUNDS: Final = 80
_GRID_UP_TO: Final = 0.8  # above this the grid is slow, and the sum of many draws is nearly normal
_SURE: Final = 4.75  # standard deviations of a one-sided doubt of one in a million


def asked(percent: float, correlation: float) -> float:
    """The share to ask netem for, so that `percent` of the packets are hit though its dice are correlated (percent).

    It throws x = (1 - c) * u + c * x', u being even and x' the throw before (`get_crandom` in sch_netem.c). These x
    crowd around a half, so that of 10 % with a correlation of 50 % it would make less than 1 %.
    """
    if not 0 < percent < 100 or not correlation:
        return percent
    depends = min(correlation, 99.0) / 100
    quantile = _on_grid if depends <= _GRID_UP_TO else _nearly_normal
    return 100 * min(1.0, max(1e-9, quantile(percent / 100, depends)))


def sure(packets: int, percent: float) -> int:
    """How many of so many packets were hit at least, each with that chance; wrong once in a million times.

    For what the kernel does by dice and does not count.
    """
    share = min(1.0, percent / 100)
    return max(0, int(packets * share - _SURE * (packets * share * (1 - share)) ** 0.5))


def _on_grid(share: float, depends: float) -> float:
    """The quantile of the stationary distribution, F(x) being the mean of F((x - (1 - c) u) / c) over all u."""
    below = [n / _CELLS for n in range(_CELLS + 1)]
    reach = (1 - depends) / depends
    for _ in range(_ROUNDS):
        area = [0.0]
        for n in range(_CELLS):
            area.append(area[-1] + (below[n] + below[n + 1]) / 2 / _CELLS)
        before = below
        below = [
            (_area(area, n / _CELLS / depends) - _area(area, n / _CELLS / depends - reach)) / reach
            for n in range(_CELLS + 1)
        ]
        if max(abs(new - old) for new, old in zip(below, before, strict=True)) < 1e-7:
            break
    n = next(n for n in range(1, _CELLS + 1) if below[n] >= share)
    return (n - 1 + (share - below[n - 1]) / (below[n] - below[n - 1])) / _CELLS


def _area(area: list[float], x: float) -> float:
    """Of F from 0 to x."""
    if x <= 0:
        return 0.0
    if x >= 1:
        return area[-1] + x - 1
    n = int(x * _CELLS)
    return area[n] + (area[n + 1] - area[n]) * (x * _CELLS - n)


def _nearly_normal(share: float, depends: float) -> float:
    """By the first two cumulants that are not 0 (Cornish and Fisher)."""
    from statistics import NormalDist

    variance = (1 - depends) ** 2 / (1 - depends**2) / 12
    fourth = -((1 - depends) ** 4) / (1 - depends**4) / 120
    z = NormalDist().inv_cdf(share)
    return float(0.5 + variance**0.5 * (z + (z**3 - 3 * z) * fourth / (24 * variance**2)))
