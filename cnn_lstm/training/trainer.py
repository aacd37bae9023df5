"""Lightning's Trainer as our commands use it: a precision that the device chooses, and no time for empty hooks."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from lightning.fabric.plugins.precision.precision import _PRECISION_INPUT
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator
from lightning.pytorch.profilers import PassThroughProfiler, Profiler
from lightning_utilities.core.rank_zero import rank_zero_info

# Those that Lightning 2.6 calls in each training step, of each callback and of the module, in a profiler's context
# that costs 2 microseconds even where the hook is empty
STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class NoProfiler(PassThroughProfiler):
    """Measures nothing, in one context for all: Lightning makes a generator for each of some thirty in a step (2.6).

    Example:
        >>> with NoProfiler().profile("a step"):
        ...     pass
    """

    _nothing = nullcontext()

    def profile(self, action_name: str) -> AbstractContextManager[None]:  # type: ignore[override]  # a generator's
        """A context that does nothing."""
        return self._nothing


class ForecastTrainer(Trainer):
    """A Trainer that chooses the precision where it is `auto`, and skips the hooks of a step that are empty.

    Args:
        precision: As Lightning's, or `auto`: bf16-mixed where the device computes with it natively, else 32-true.
        **kwargs: As Lightning's.

    Example:
        >>> ForecastTrainer(precision="32-true", logger=False, accelerator="cpu").precision
        '32-true'
    """

    def __init__(self, *, precision: _PRECISION_INPUT | Literal["auto"] | None = None, **kwargs: Any) -> None:
        if precision == "auto":
            precision = automatic_precision(kwargs.get("accelerator", "auto"))
            rank_zero_info(f"trainer.precision auto: {precision}")
        super().__init__(precision=precision, **kwargs)
        if type(self.profiler) is PassThroughProfiler:
            self.profiler: Profiler = NoProfiler()

    def fit(self, *args: Any, **kwargs: Any) -> None:
        """Trains; see Lightning's."""
        modules = [one for one in (*args, *kwargs.values()) if isinstance(one, LightningModule)]
        skip_empty_hooks([*self.callbacks, *modules])  # type: ignore[attr-defined]  # set by Lightning's connectors
        super().fit(*args, **kwargs)


def automatic_precision(accelerator: object) -> _PRECISION_INPUT:
    """bf16-mixed where the device computes with bf16 natively, else 32-true.

    Args:
        accelerator: What the Trainer is given: a name, or an object.
    """
    cuda = isinstance(accelerator, CUDAAccelerator) or accelerator in ("cuda", "gpu", "auto")
    if cuda and torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    cpu = isinstance(accelerator, CPUAccelerator) or accelerator in ("cpu", "auto")
    return "bf16-mixed" if cpu and not torch.backends.mps.is_available() and native_on_cpu() else "32-true"


def native_on_cpu() -> bool:
    """Whether this CPU has instructions for bf16; where it has none, PyTorch's are slower than single precision."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def skip_empty_hooks(owners: Iterable[Callback | LightningModule]) -> None:
    """Lets Lightning pass over the hooks of a step that a callback or a module has only inherited.

    Lightning (2.6) asks whether a hook can be called before it opens a profiler's context for it. Some twenty callbacks
    with six such hooks are a third of what a step of a small network costs over a bare loop.

    Args:
        owners: Callbacks of a trainer, and what it trains.
    """
    for owner in owners:
        kind = Callback if isinstance(owner, Callback) else LightningModule
        for name in STEP_HOOKS:
            if getattr(getattr(owner, name), "__func__", None) is getattr(kind, name):
                setattr(owner, name, None)
