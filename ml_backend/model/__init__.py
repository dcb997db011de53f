"""The segmentation network and how it is trained."""
