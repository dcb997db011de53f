"""bioimageio.core, which tests what is offered to the BioImage Model Zoo: MODEL.zip ANSWER.json."""

import json
import sys
from pathlib import Path

from bioimageio.core import load_description, test_description

package, answer = sys.argv[1:]
found = load_description(package)
summary = test_description(found)
told = {
    "status": summary.status,
    "errors": [error.msg for detail in summary.details for error in detail.errors],
    "weights": sorted(name for name, weights in found.weights if weights is not None),
    "passed": [detail.name for detail in summary.details if detail.status == "passed"],
    "axes": [str(axis.id) for axis in found.inputs[0].axes],
    "channels": [str(name) for name in found.outputs[0].axes[1].channel_names],
}
Path(answer).write_text(json.dumps(told), encoding="utf-8")
