"""The champion of a roll: champion.ckpt with the day on which it expires, and its version in the model registry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cnn_lstm.files import make_folder
from cnn_lstm.inference.pyfunc import save_pyfunc
from cnn_lstm.model.checkpoints import read_checkpoint, write_checkpoint
from cnn_lstm.model.contract import CHECKPOINT_KEY, Contract, digest_of, with_digest
from cnn_lstm.runs.members import Member
from cnn_lstm.training.tracking.events import CHALLENGER, CHAMPION, LoggedModel
from cnn_lstm.training.tracking.record import Record, parent_record

FILE = "champion.ckpt"
MODELS = "models"


def write_champion(folder: Path, member: Member, expires: str) -> Path:
    """Writes the champion's best checkpoint into the folder of the roll; the weights stay as they are.

    Args:
        folder: The folder of the roll.
        member: The run of the champion.
        expires: First decision that it is not to forecast without another step, ISO, UTC.

    Returns:
        The file.
    """
    content = read_checkpoint(member.run.checkpoint("best"))
    contract = replace(Contract.of(content), expires=expires)
    content[CHECKPOINT_KEY] = with_digest(contract, content["state_dict"])
    write_checkpoint(content, folder / FILE)
    return folder / FILE


@dataclass(frozen=True)
class Registry:
    """Where the models of a roll are registered.

    Attributes:
        name: Name in the model registry.
        uri: Tracking URI; see `tracking_uri` for what None means.
    """

    name: str
    uri: str | None

    def announce(self, folder: Path, champion: Member, newest: Member, expires: str) -> None:
        """Registers champion and newest model, unless they are already; what a server that is down misses waits.

        A champion whose time was prolonged becomes another version: the day is in its checkpoint. All versions are
        sent from one journal, so that a late delivery never puts an alias back.

        Args:
            folder: The folder of the roll, with champion.ckpt.
            champion: The run of the champion.
            newest: The run of the last step.
            expires: The day in champion.ckpt, ISO.
        """
        record = parent_record(folder, newest.run, self.uri)
        record.register = self.name
        if not record.enabled:
            return
        if newest.run.model.is_dir():
            digest = digest_of(read_checkpoint(newest.run.checkpoint("best")))
            _register(record, newest.run.model, digest, CHALLENGER)
        model = folder / MODELS / f"{champion.run.path.name}_until_{expires[:10]}"
        if not model.is_dir():
            make_folder(model.parent)
            save_pyfunc(folder / FILE, model)
        digest = digest_of(read_checkpoint(folder / FILE))
        _register(record, model, f"{digest} until {expires}", CHAMPION)
        record.send()


def _register(record: Record, model: Path, digest: str, alias: str) -> None:
    """Adds a version to the journal, unless it is the last one of its alias there."""
    if _last(record, alias) != digest:
        record.model(model, digest, 0, alias)
        record.end("FINISHED")


def _last(record: Record, alias: str) -> str | None:
    contents = [event.content for event in record.journal.events()]
    models: Sequence[LoggedModel] = [one for one in contents if isinstance(one, LoggedModel) and one.alias == alias]
    return models[-1].digest if models else None
