"""What the values of a label file mean in a project."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from biosegment.errors import LabelConfigError, LabelValuesError, SettingsError
from biosegment.labels import BACKGROUND, NO_BACKGROUND, UNKNOWN, LabelMap

_BAND_VOXELS = 2**22


@dataclass(frozen=True, slots=True)
class LabelValues:
    """The labels of a file's values; 0 is background if nothing else is said."""

    labels: Mapping[int, str] = field(default_factory=dict)
    """Label of each value; none for a project of one label, to which every other value belongs."""
    unknown: int | None = None
    """Value of voxels that nobody has said anything about."""

    @classmethod
    def parse(cls, text: str, unknown: int | None = None) -> "LabelValues":
        """Return what ``1=mitochondria,2=vesicles,3=`` says; nothing after = is background.

        Raises
        ------
        SettingsError
            If it is not such a list.
        """
        labels: dict[int, str] = {}
        for part in text.split(","):
            value, equals, label = part.partition("=")
            if not equals or not value.strip().isdecimal():
                reason = f"is a list of value=label such as 1=mitochondria,2=vesicles, not {text}"
                raise SettingsError("--map", reason)
            labels[int(value)] = label.strip() or BACKGROUND
        return cls(labels, unknown)

    def checked(self, label_map: LabelMap) -> "LabelValues":
        """Return these values, if the project has all their labels.

        Raises
        ------
        LabelConfigError
            If it lacks one, or a brush for background, which unknown voxels need.
        """
        if self.unknown is not None and not label_map.has_background_brush:
            raise LabelConfigError(NO_BACKGROUND)
        for label in self.labels.values():
            label_map.index(label)
        return self

    def named(self, path: str, names: Mapping[int, str], label_map: LabelMap) -> "LabelValues":
        """Return what the names in a file say, unless something was said already.

        A name is that of a label if they are equal but for case and for characters that are
        neither letters nor digits, which some formats do without. An empty one is the only label.

        Parameters
        ----------
        path : str
            The file, for the message.
        names : mapping of int to str
            Of the file's values; none where it does not tell.
        label_map : LabelMap
            Of the project.

        Raises
        ------
        LabelValuesError
            If a name is none of the project's labels.
        """
        if self.labels or not names:
            return self
        known = {_plain(label): label for label in label_map.names}
        if len(label_map.names) == 2:
            known[""] = label_map.names[1]
        strange = {value for value, name in names.items() if _plain(name) not in known}
        if strange:
            told = tuple(f"{value} ({names[value]})" for value in sorted(strange))
            raise LabelValuesError(path, told, label_map.names[1:])
        labels = {value: known[_plain(name)] for value, name in names.items()}
        return replace(self, labels=labels)

    def masks(
        self, path: str, values: npt.NDArray[np.generic], label_map: LabelMap
    ) -> npt.NDArray[np.uint8]:
        """Return the project's class integers of a file's values.

        Parameters
        ----------
        path : str
            The file, for the message.
        values : ndarray of integers or floats, any shape
        label_map : LabelMap
            Of the project.

        Returns
        -------
        ndarray of uint8, the same shape
            `UNKNOWN` (255) where nothing is known.

        Raises
        ------
        LabelValuesError
            If a value has no label.
        """
        flat = values.ravel()
        masks = np.empty(flat.shape, np.uint8)
        strange: set[float] = set()
        # Places of a whole large slice would take eight bytes a voxel.
        for start in range(0, flat.size, _BAND_VOXELS):
            band = slice(start, start + _BAND_VOXELS)
            found, places = np.unique(flat[band], return_inverse=True)
            classes = [self._class(value, label_map) for value in found.tolist()]
            strange.update(
                value for value, known in zip(found.tolist(), classes, strict=True) if known is None
            )
            masks[band] = np.array([known or 0 for known in classes], np.uint8)[places]
        if strange:
            raise LabelValuesError(path, tuple(sorted(strange)[:20]), label_map.names[1:])
        return masks.reshape(values.shape)

    def _class(self, value: float, label_map: LabelMap) -> int | None:
        """Return the class of a value; None if nothing says what it is."""
        if self.unknown is not None and value == self.unknown:
            return UNKNOWN
        if value in self.labels:
            return label_map.index(self.labels[int(value)])
        if value == 0:
            return 0
        return 1 if not self.labels and len(label_map.names) == 2 else None


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "_", name.casefold())
