"""Which feature's last value is subtracted from a label and added back to its forecast.

Shapes: F features, H targets.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cnn_lstm.data.features import Feature
from cnn_lstm.data.targets import Target
from cnn_lstm.errors import require

NONE = -1


def anchor_positions(features: Sequence[str], anchored: Collection[str], targets: Sequence[Target]) -> list[int]:
    """For each target the position of its anchor among the features, (H,); -1 for none.

    Args:
        features: Names of the features, (F,).
        anchored: Those that are taken relative to the window's last value: a level among them is a target's anchor.
        targets: The targets, (H,).

    Example:
        >>> from cnn_lstm.data.targets import ForwardValue, RealizedVolatility
        >>> volatility = RealizedVolatility(5, anchor="realised_volatility_5")
        >>> anchor_positions(["rate", "realised_volatility_5"], ["rate"], [ForwardValue("rate"), volatility])
        [0, 1]
    """
    names = [
        target.anchor or (target.column if target.level and target.column in anchored else "") for target in targets
    ]
    return [list(features).index(name) if name else NONE for name in names]


def check_anchors(features: Sequence[Feature], targets: Sequence[Target]) -> None:
    """Refuses a target whose anchor is not a feature, or has another unit.

    A column of the table, and a user's own function that does not declare its kind, are taken as what the user says.

    Raises:
        ConfigError: E225, the anchor is not listed; E224, it is another quantity.
    """
    by_name = {item.name: item for item in features}
    for target in targets:
        if not target.anchor:
            continue
        where = f"data.targets, {target.name}"
        what = f"anchor {target.anchor!r} is not a feature"
        require(target.anchor in by_name, what, where, "list it in data.features", code=225)
        kind = by_name[target.anchor].kind
        what = f"anchor {target.anchor!r} is a {kind}, the target a {target.kind}"
        fix = f"name a feature that is a {target.kind}, see docs/features.md"
        require(kind in ("", target.kind), what, where, fix)
