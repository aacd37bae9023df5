"""The audit of a data module and a checkpoint file: prints and writes the findings, and fails if a check failed."""

from __future__ import annotations

import json
from pathlib import Path

from cnn_lstm.data.datamodule import MarketDataModule
from cnn_lstm.errors import ValidityError
from cnn_lstm.evaluation.audit.run_audit import audit
from cnn_lstm.files import write_text_whole
from cnn_lstm.inference.predictor import Predictor
from cnn_lstm.model.checkpoints import read_checkpoint
from cnn_lstm.model.contract import refuse_differences

SEED = 0


def audit_files(data: MarketDataModule, ckpt_path: str | None, output: Path | None, warnings_fail: bool) -> None:
    """Runs every check, prints and writes what it finds.

    Args:
        data: The data module.
        ckpt_path: A checkpoint of the same features, targets and window; None checks the data alone.
        output: Where to write the findings as JSON; None writes nothing.
        warnings_fail: Whether a warning is a failure.

    Raises:
        CheckpointError: If the checkpoint is of another recipe.
        ValidityError: If a check failed.
    """
    predictor = checkpoint = None
    if ckpt_path is not None:
        checkpoint = read_checkpoint(ckpt_path)
        predictor = Predictor.from_checkpoint(ckpt_path)
        refuse_differences(predictor.recipe.to_plain(), data.recipe.to_plain())
    findings = audit(data, predictor, checkpoint, SEED, warnings_fail)
    print(f"{findings}\n{findings.seconds:.1f} s")
    if output is not None:
        write_text_whole(output, json.dumps(findings.to_plain(), indent=2) + "\n")
        print(f"audit: {output}")
    if findings.failed:
        counts = ", ".join(f"{part.name} ({len(part.findings)})" for part in findings.failed)
        raise ValidityError(
            f"the audit failed: {counts}",
            str(findings.failed[0].findings[0]),
            "correct the first finding, the others may follow from it; see docs/audit.md",
            code=820,
        )
