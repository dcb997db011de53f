"""Logging of the processes that BioSegment starts; called by the command line, wsgi and worker."""

import logging


def configure_logging(level: str) -> None:
    """Log to standard error, one line a message; libraries only from WARNING on."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    for package in ("biosegment", "importers", "exporters", "ml_backend"):
        logging.getLogger(package).setLevel(level)
