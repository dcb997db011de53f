"""Writers of segmentations for other programs."""
