"""A checkpoint as an MLflow model: a table of prices in, the predictions table out.

The model holds the checkpoint and the source of this package, and no pickled object; `mlflow.pyfunc.load_model` runs it
wherever its requirements are installed.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from cnn_lstm.bounded import load_json
from cnn_lstm.data.arrow_frames import Frame
from cnn_lstm.data.feature_catalogue import raw_columns
from cnn_lstm.data.known_future import KnownFuture
from cnn_lstm.data.muted_warnings import muted
from cnn_lstm.data.static_columns import SYMBOL
from cnn_lstm.errors import DataError
from cnn_lstm.files import replace_folder
from cnn_lstm.inference.given_tables import GivenTables
from cnn_lstm.inference.predictor import Predictor

log = logging.getLogger(__name__)
REQUIREMENTS = ("torch", "lightning", "torchmetrics", "jsonargparse", "numpy", "pandas", "pyarrow", "TA-Lib")
EXAMPLE_ROWS = 2
TABLES = ("known_future", "static")  # that stand next to the prices


class PriceModel:
    """What MLflow calls: `Predictor`, with an empty table where no window is complete.

    Args:
        predictor: The trained forecaster with its recipe.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Frame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Forecasts of all complete windows.

        Args:
            model_input: Table with symbol, timestamp (UTC where it names no zone) and the columns of the recipe; dates
                keep their day as everywhere, see `price_table`.
            params: `known_future` and `static`, each the JSON text of the rows of a table, if the checkpoint reads
                facts known ahead or static columns: `table.to_json(orient="records", date_format="iso")`.

        Returns:
            The predictions table, see `predictions_table`.

        Raises:
            DataError: If a table is damaged.
            CheckpointError: E429, if a table is needed and missing; E430, if the checkpoint has expired.
        """
        given = {name: _rows_of(text, name) for name in TABLES if (text := (params or {}).get(name))}
        facts = list(dict.fromkeys(one.fact for one in self.predictor.recipe.known_future))
        ahead = KnownFuture(given["known_future"], facts, tz="UTC") if facts and "known_future" in given else None
        forecasts = self.predictor.predict_if_any(model_input, "UTC", GivenTables(ahead, given.get("static")))
        if forecasts.empty:
            window = self.predictor.recipe.window
            log.warning("no forecast: no symbol has the history of a window of %d rows", window)
        return forecasts


def _load_pyfunc(path: str) -> PriceModel:
    """Called by `mlflow.pyfunc.load_model` with the model's data."""
    return PriceModel(Predictor.from_checkpoint(path))


def save_pyfunc(checkpoint: Path, folder: Path) -> None:
    """Writes a checkpoint as an MLflow model with the types of its answer, input example and requirements.

    Args:
        checkpoint: Checkpoint written by `fit`.
        folder: The model's folder; replaced.
    """
    model = PriceModel(Predictor.from_checkpoint(checkpoint, allow_expired=True))  # the example has days of its own
    example = example_prices(model.predictor)
    tables = example_tables(model.predictor, example)
    with tempfile.TemporaryDirectory() as scratch, _without_hints():
        import mlflow.pyfunc

        # a copy of this package without caches and sample data
        package, unneeded = Path(__file__).parents[1], shutil.ignore_patterns("__pycache__", "*.parquet")
        source = shutil.copytree(package, Path(scratch) / package.name, ignore=unneeded)
        write = partial(
            mlflow.pyfunc.save_model,
            loader_module=__name__,
            data_path=str(checkpoint),
            code_paths=[str(source)],
            signature=_signature(model.predict(example, tables), tables),
            input_example=(example, tables) if tables else example,
            pip_requirements=[f"{name}=={version(name).partition('+')[0]}" for name in REQUIREMENTS],  # no build
        )
        replace_folder(folder, write)


def example_prices(predictor: Predictor) -> pd.DataFrame:
    """Two rows of a price table with the columns that a predictor needs: their names and types, not a whole window.

    Args:
        predictor: The trained forecaster with its recipe.
    """
    recipe = replace(predictor.recipe, features=predictor.recipe.of_prices, known_future=(), static=())
    bound = recipe.bind([*recipe.features, *raw_columns(recipe.features)], predictor.targets)
    columns = [name for name in bound.needed_columns if name not in bound.label_columns]
    days = pd.date_range("2024-01-02", periods=EXAMPLE_ROWS, freq="D")
    symbol = predictor.forecaster.contract.symbols[0]
    prices = {name: [100.0 + row for row in range(EXAMPLE_ROWS)] for name in columns}
    return pd.DataFrame({"symbol": [symbol] * EXAMPLE_ROWS, "timestamp": days, **prices})


def example_tables(predictor: Predictor, prices: pd.DataFrame) -> dict[str, str]:
    """The tables that a predictor needs next to `example_prices`, as parameters of `PriceModel.predict`.

    Args:
        predictor: The trained forecaster with its recipe.
        prices: The example.
    """
    recipe, known = predictor.recipe, predictor.forecaster.contract.static
    tables: dict[str, pd.DataFrame] = {}
    if recipe.known_future:
        sessions = pd.date_range(
            prices["timestamp"].min(), periods=len(prices) + max(one.last for one in recipe.known_future)
        )
        tables["known_future"] = pd.DataFrame({"timestamp": sessions, **{one.fact: 0.0 for one in recipe.known_future}})
    if recipe.static:
        categories = {name: [known[name][0]] for name in recipe.static}
        tables["static"] = pd.DataFrame({SYMBOL: [prices["symbol"].iloc[0]], **categories})
    return {name: table.to_json(orient="records", date_format="iso") for name, table in tables.items()}


def _rows_of(text: str, name: str) -> pd.DataFrame:
    """The table whose rows are JSON."""
    try:
        rows = load_json(text.encode())
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise TypeError(type(rows).__name__)
        return pd.DataFrame(rows)
    except (TypeError, ValueError, AttributeError) as error:
        fix = 'give table.to_json(orient="records", date_format="iso")'
        raise DataError(f"{name} is not JSON of the rows of a table", "params", fix, code=338) from error


def _signature(forecasts: pd.DataFrame, tables: Mapping[str, str]) -> Any:
    """Types of the answer, and no types of the prices: `price_table` checks these, and knows more of them.

    MLflow reads CSV either without types or where each column has one of its own, and none of those holds both texts
    and timestamps with a time zone; it also refuses whole numbers where it was promised floats.
    """
    from mlflow.models import ModelSignature
    from mlflow.types.schema import ColSpec, ParamSchema, ParamSpec, Schema

    types = {"f": "double", "i": "long", "M": "datetime"}
    outputs = [ColSpec(types.get(kind.kind, "string"), str(name)) for name, kind in forecasts.dtypes.items()]
    params = ParamSchema([ParamSpec(name, "string", "") for name in tables]) if tables else None
    return ModelSignature(outputs=Schema(outputs), params=params)


@contextmanager
def _without_hints() -> Iterator[None]:
    """Mutes MLflow's hints for people who declare their types, and our warning that the example is short."""
    with warnings.catch_warnings(), muted(log.name, "mlflow"):
        warnings.filterwarnings("ignore", "Operation with range is deprecated")  # MLflow 3.17 under pandas 3.1
        warnings.filterwarnings("ignore", ".*Any type hint is inferred as AnyType")
        yield
