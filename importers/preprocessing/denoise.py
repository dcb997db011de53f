"""Noise taken away slice by slice, edges kept."""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle

from biosegment.geometry import Roi
from importers.preprocessing.base import Before, Step, Values, grown, part

_ITERATIONS: Final = 50
_PATCH_PX: Final = 5
_SEARCH_PX: Final = 6
# What took most of a known noise away from slices of a cleaned stack.
_TV_WEIGHT: Final = 0.6
_NLM_CUTOFF: Final = 0.7


@dataclass(frozen=True, slots=True)
class Denoise(Step):
    """Total variation or non-local means, by as much as the volume is noisy."""

    method: Literal["tv", "nlm"] = "tv"
    """tv makes areas even and edges sharp, nlm keeps more of fine texture."""
    strength: float = 1.0
    """In terms of the noise found in the volume."""

    def __post_init__(self) -> None:
        if self.method not in ("tv", "nlm"):
            raise ValueError("method must be tv or nlm")
        if not 0 < self.strength <= 10:
            raise ValueError("strength must be above 0 and at most 10")

    def needs(self, roi: Roi, shape: tuple[int, int, int]) -> Roi:
        """Return the region with the surrounding that each pixel depends on.

        Every iteration of total variation carries an influence one pixel further.
        """
        tv = self.method == "tv"
        return grown(roi, _ITERATIONS if tv else _SEARCH_PX + _PATCH_PX // 2, shape)

    def apply(self, values: Values, held: Roi, roi: Roi, before: Before) -> Values:
        """Return the intensities with less noise."""
        noise = before.noise()
        if noise > 0:
            for image in values:
                image[:] = self._denoised(image, noise)
        return values[part(held, roi)]

    def _denoised(self, image: Values, noise: float) -> Values:
        if self.method == "tv":
            # It must not stop when all of a block has converged: blocks would stop differently.
            result = denoise_tv_chambolle(
                image, _TV_WEIGHT * self.strength * noise, eps=0, max_num_iter=_ITERATIONS
            )
        else:
            result = denoise_nl_means(
                image,
                patch_size=_PATCH_PX,
                patch_distance=_SEARCH_PX,
                h=_NLM_CUTOFF * self.strength * noise,
                sigma=noise,
                fast_mode=True,
            )
        return np.asarray(result, np.float32)
