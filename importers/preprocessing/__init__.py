"""Steps that change the intensities of a volume while it is imported."""

from biosegment.registry import LazyRegistry
from importers.preprocessing.base import Step

STEPS: LazyRegistry[type[Step]] = LazyRegistry(
    {
        "normalise": "importers.preprocessing.normalise:Normalise",
        "clahe": "importers.preprocessing.clahe:Clahe",
        "bin": "importers.preprocessing.bin:Bin",
        "denoise": "importers.preprocessing.denoise:Denoise",
        "invert": "importers.preprocessing.invert:Invert",
    }
)
"""Every preprocessing step, by name."""
