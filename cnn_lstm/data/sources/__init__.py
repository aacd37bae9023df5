"""Sources of price tables, chosen by `class_path` in YAML: `cnn_lstm.data.sources.PriceFiles` and so on."""

from cnn_lstm.data.sources.base import PriceSource
from cnn_lstm.data.sources.files import PriceFiles
from cnn_lstm.data.sources.packages import SkfolioBars
from cnn_lstm.data.sources.parquet_dataset import ParquetDataset
from cnn_lstm.data.sources.sample import SampleBars
from cnn_lstm.data.sources.sql import SqlBars
from cnn_lstm.data.sources.wide import WideFile
from cnn_lstm.data.sources.yahoo import YahooBars

__all__ = [
    "ParquetDataset",
    "PriceFiles",
    "PriceSource",
    "SampleBars",
    "SkfolioBars",
    "SqlBars",
    "WideFile",
    "YahooBars",
]
