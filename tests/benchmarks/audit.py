"""How long the audit takes: python -m tests.benchmarks.audit [--rows N] [--symbols N].

Every check, with a network of default size that has learnt nothing, on random walks with the default features and
window. One run, no comparison: the goal is a minute for 5 symbols of 1,000 rows on two cores.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import pandas as pd

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.data.targets import ForwardReturn
from cnn_lstm.evaluation.audit.learning import calibration_of
from cnn_lstm.evaluation.audit.run_audit import audit
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.contract import Contract
from cnn_lstm.model.forecaster import Forecaster
from cnn_lstm.model.network import CNNLSTM
from tests.markets import TableSource, walk


def main() -> None:
    """Audits once, and prints every check and the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--symbols", type=int, default=5)
    given = parser.parse_args()
    table = pd.concat([walk(given.rows, f"S{number}", number) for number in range(given.symbols)], ignore_index=True)
    data = MarketDataModule(TableSource(table), targets=[ForwardReturn()])
    data.setup()
    model = Forecaster(CNNLSTM(data.n_features)).eval()
    model.contract = Contract.from_plain(data.contract())
    model.learn_statistics(data.statistics)
    predictor = Predictor(model)
    model.contract = replace(model.contract, calibration=calibration_of(predictor, data))
    report = audit(data, predictor)
    print(f"{report}\n{given.symbols} symbols x {given.rows:,} rows: {report.seconds:.1f} s")


if __name__ == "__main__":
    main()
