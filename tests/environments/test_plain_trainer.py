"""A plain Trainer on two processes: it trains, and each process has the forecasts of all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cnn_lstm import Predictor
from tests.environments import ROOT
from tests.fits import small_data

PROGRAM = """
import sys
import torch
from pathlib import Path
from lightning.pytorch import seed_everything
from cnn_lstm import Forecaster
from tests.fits import small_data, small_network, small_trainer

seed_everything(1, verbose=False)
model, data = Forecaster(small_network()), small_data(Path("."), batch_size=8)
trainer = small_trainer(devices=2, strategy="ddp", use_distributed_sampler=False)
trainer.fit(model, datamodule=data)
trainer.save_checkpoint("two.ckpt")
own = trainer.predict(model, datamodule=data)
torch.save({"own": torch.cat([batch["row"] for batch in own]), **model.forecasts}, f"rank{trainer.global_rank}.pt")
"""


@pytest.mark.slow
def test_two_processes_forecast_what_one_does(tmp_path: Path) -> None:
    small_data(tmp_path)  # writes the prices
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": str(Path(sys.executable).parent)}
    command = [sys.executable, "-W", "ignore", "program.py"]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    rows = torch.cat([rank["own"] for rank in ranks]).sort().values
    assert len(ranks[0]["own"]) < len(rows)
    for rank in ranks:
        assert torch.equal(rank["row"], rows)
        assert torch.equal(rank["y_pred"], ranks[0]["y_pred"])
    data = small_data(tmp_path)
    data.setup()
    assert np.array_equal(data.rows_to_predict(), rows.numpy())
    alone = Predictor.from_checkpoint(tmp_path / "two.ckpt").forecast_rows(data.panel, rows.numpy())["y_pred"]
    torch.testing.assert_close(alone, ranks[0]["y_pred"])
