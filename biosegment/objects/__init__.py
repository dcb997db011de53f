"""Objects of a segmented volume: found, told apart and measured, block by block."""
