"""The dates that a checkpoint knows, as a split has them."""

from __future__ import annotations

from dataclasses import astuple

import numpy as np

from cnn_lstm.data.splits import Boundaries
from cnn_lstm.model.contract import Contract


def dates_of(contract: Contract) -> Boundaries:
    """The dates of the parts that a checkpoint was trained with.

    Args:
        contract: What the checkpoint says of its data.

    Example:
        >>> from cnn_lstm.model.contract import PartDates
        >>> dates = PartDates("2010-01-04", "2012-01-02", "2013-01-02", "2014-01-01")
        >>> str(dates_of(Contract(boundaries=dates)).test)
        '2013-01-02T00:00:00.000000'
    """
    train, validation, test, end = (np.datetime64(moment, "us") for moment in astuple(contract.boundaries))
    return Boundaries(train, validation, test, end)
