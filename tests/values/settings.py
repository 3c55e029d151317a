"""Values to run methods with, and maps for one of them."""

from __future__ import annotations

from itscale.values import FlowMap, LookAhead, ManySample, Value


def halved(x, t, condition=None):
    """No flow map of any model; the target does not depend on that."""
    return 0.5 * x if condition is None else 0.5 * x + 0.1 * condition.reshape(-1, *(1,) * (x.ndim - 1)).to(x)


SPREAD = (1.0, 0.8, 0.5, 0.3, 0.1, 0.05)
VALUES: dict[str, Value] = {
    "look-ahead": LookAhead(steps=3),
    "many-sample": ManySample(samples=3, inner_steps=2),
    "many-sample, gaussian": ManySample(samples=4, spread=SPREAD, common=True),
    "flow-map": FlowMap(halved, looks=0),
}
