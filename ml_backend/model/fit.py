"""Lightning's trainer as a plain function: silent, interruptible, and without files of its own."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.callbacks import Callback, EMAWeightAveraging, LearningRateMonitor
from pytorch_lightning.loggers import TensorBoardLogger

from biosegment.progress import Progress
from ml_backend.dataset import AugmentedBatches
from ml_backend.hardware import has_bfloat16
from ml_backend.model.lit import SegmentationModule


def fit(
    module: SegmentationModule,
    batches: AugmentedBatches,
    ema_decay: float,
    events: TensorBoardLogger | None,
    progress: Progress,
) -> None:
    """Train a module in place, one optimisation step a batch, on the device of the batches.

    Parameters
    ----------
    module : SegmentationModule
        Left with the moving average of its weights over the second half of the steps.
    batches : AugmentedBatches
    ema_decay : float
        Decay per step of the moving average.
    events : TensorBoardLogger, optional
        Told of the loss and the learning rate.
    progress : Progress
        Counts optimisation steps.
    """
    steps = len(batches)
    with _quiet_lightning():
        trainer = pl.Trainer(
            max_steps=steps,
            accelerator="gpu" if batches.device.type == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if has_bfloat16(batches.device) else "32-true",
            logger=events or False,
            callbacks=[
                # From half way on: what the network was at the start would only hold it back.
                EMAWeightAveraging(decay=ema_decay, update_starting_at_step=steps // 2),
                _Report(progress),
                *([LearningRateMonitor("step")] if events else []),
            ],
            # One process, whatever cluster scheduler the environment variables speak of.
            plugins=[LightningEnvironment()],
            log_every_n_steps=10,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(module.to(memory_format=torch.channels_last), batches)
        except SystemExit as exc:
            # Lightning ends the process on Ctrl-C; whether to end is the caller's to say.
            if isinstance(exc.__context__, KeyboardInterrupt):
                raise exc.__context__ from None
            raise


class _Report(Callback):
    """Tells a progress function of every step."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        self._progress(trainer.global_step, trainer.max_steps)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's remarks on the machine, and on its own use of torch, out of the logs."""
    remarks = logging.getLogger("pytorch_lightning")
    level = remarks.level
    remarks.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="pytorch_lightning|lightning_fabric")
            yield
    finally:
        remarks.setLevel(level)
