"""The shared kernel of BioSegment: geometry, storage, labels, Label Studio and the command line."""

__version__ = "0.1.0"
