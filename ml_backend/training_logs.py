"""What TensorBoard shows of a project: one run a model version, in ``logs/PROJECT/VERSION``."""

import shutil
from pathlib import Path
from typing import Final

from torch.utils.tensorboard import SummaryWriter

from ml_backend.live_quality import LiveQuality

KEPT_RUNS: Final = 50
"""Runs of a project's newest versions that are kept; the model cards keep the figures of all."""


class TrainingLogs:
    """The runs of one project.

    Parameters
    ----------
    data_root
        The data folder.
    project_id
        Number of the project in Label Studio.
    """

    def __init__(self, data_root: Path, project_id: int) -> None:
        self._folder = data_root / "logs" / str(project_id)

    def run(self, version: str) -> Path:
        """Return where the events of a version's training go."""
        return self._folder / version

    def add_quality(self, quality: LiveQuality) -> None:
        """Add the live IoU of a version to its run, over the number of labels it learned from."""
        measured = {**quality.iou, "mean": quality.mean.value if quality.mean else None}
        with SummaryWriter(self.run(quality.version)) as writer:
            for name, iou in measured.items():
                if iou is not None:
                    writer.add_scalar(f"live_iou/{name}", iou, quality.labels)

    def prune(self) -> None:
        """Remove all runs but those of the newest versions."""
        # A version's name begins with its number.
        runs = sorted(path for path in self._folder.iterdir() if path.is_dir())
        for run in runs[:-KEPT_RUNS]:
            shutil.rmtree(run, ignore_errors=True)
