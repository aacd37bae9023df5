"""Frames of other libraries: Polars, Arrow, DuckDB and others hand their columns over through the Arrow C stream."""

from __future__ import annotations

from typing import Protocol

import pandas as pd
import pyarrow as pa


class ArrowStream(Protocol):
    """A table that hands its columns over in Arrow's form."""

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """A PyCapsule of the stream."""


Frame = pd.DataFrame | ArrowStream


def as_pandas(frame: object) -> object:
    """What holds a table in Arrow's form, as a DataFrame of pandas; anything else as it is.

    The columns come through the Arrow PyCapsule interface, so that no other library has to be there: a Polars
    DataFrame, a table, a batch or a reader of pyarrow, a relation of DuckDB. A table that pyarrow made of a DataFrame
    of pandas, or read from its file, gets its index and its `attrs` back.

    Args:
        frame: What a user holds.

    Source:
        https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html.

    Example:
        >>> as_pandas(pa.table({"close": [1.5, None]}))["close"].tolist()
        [1.5, nan]
        >>> as_pandas("prices.csv")
        'prices.csv'
    """
    if isinstance(frame, pd.DataFrame) or not any(hasattr(frame, name) for name in CAPSULES):
        return frame
    try:
        table = frame.read_all() if isinstance(frame, pa.RecordBatchReader) else pa.table(frame)
    except (pa.ArrowException, TypeError, ValueError):  # a column or a schema alone
        return frame
    for position, field in enumerate(table.schema):
        if pa.types.is_decimal(field.type) or pa.types.is_boolean(field.type):
            # pandas would make Python objects of them
            table = table.set_column(position, field.name, table.column(position).cast(pa.float64()))
    result: pd.DataFrame = table.to_pandas(date_as_object=False)
    return result


CAPSULES = ("__arrow_c_stream__", "__arrow_c_array__")
