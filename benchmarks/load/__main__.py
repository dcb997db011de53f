"""The backend, a project and a worker under load: ``python -m benchmarks.load``.

    python -m benchmarks.load annotating --annotators 50 --tiles 240
    python -m benchmarks.load reordering --tasks 100000
    python -m benchmarks.load sharing --projects 100

``annotating`` sends to one backend what Label Studio sends it for annotators in parallel, who label
a tile in 5 s: three times as fast as they would in a hurry. 240 tiles each are an hour of theirs.
``reordering`` ranks a project of many tasks. ``sharing`` lets one worker train many projects, one
of which asks for a training all the time. Without a word all three follow each other.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

from benchmarks.load import annotating, reordering, sharing


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="annotating | reordering | sharing")
    parser.add_argument("--annotators", type=int, default=50)
    parser.add_argument("--tiles", type=int, default=60, help="each annotator labels; 240 an hour")
    parser.add_argument("--tile", type=int, default=256, help="side of these, px")
    parser.add_argument("--think", type=float, default=5.0, help="mean seconds for a tile")
    parser.add_argument("--tasks", type=int, default=20_000, help="of the project to reorder")
    parser.add_argument("--strategies", default="random,entropy", help="it is reordered by")
    parser.add_argument("--projects", type=int, default=100, help="that share a worker")
    options = parser.parse_args()
    parts = {
        "annotating": partial(
            annotating.measure,
            annotators=options.annotators,
            each=options.tiles,
            tile=options.tile,
            think_s=options.think,
        ),
        "reordering": partial(
            reordering.measure, tasks=options.tasks, strategies=options.strategies.split(",")
        ),
        "sharing": partial(sharing.measure, projects=options.projects),
    }
    if unknown := set(options.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}")
    for name in options.parts or parts:
        print(f"== {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="biosegment-load-") as folder:
            parts[name](Path(folder))


if __name__ == "__main__":
    main()
