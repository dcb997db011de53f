"""What a model package tells people: its name, a summary, and a page on how to use it."""

import re
from collections.abc import Sequence
from typing import Final

from ml_backend.model.unet import UNet
from ml_backend.model_package import PackageCard

MAX_NAME: Final = 64
MAX_SUMMARY: Final = 512

_PAGE: Final = """\
# {name}

{summary}

## Input

One slice, y and x, of grey values from 0 (black) to 1 (white), as 32-bit floats. Black and white
are those of the whole volume, not of the slice or of a part of it:

    import numpy as np
    black, white = np.percentile(volume, (0.1, 99.9))
    image = np.clip((slice - black) / (white - black), 0, 1).astype("float32")

BioSegment takes these percentiles from 16 slices that are spread over the volume. It keeps them
with each volume that it imported: `window`, under `biosegment`, in the attributes of the OME-Zarr
image. Other grey values, such as 0 to 255, give results without meaning.

## Output

The probability of each class at each pixel; they sum to 1. The channels are, in order:

{classes}

The class with the highest probability is what BioSegment shows.

## Sizes

The sides of an image are multiples of {stride} pixels. The network looks {reach} pixels far, which
is the halo: tiles that overlap by that much on each side give what the whole image would give. The
smallest tile of which anything is left without the halo has {smallest} pixels; the network itself
takes any multiple of {stride}. At the border of an image, BioSegment lets the network see nothing
beyond it, where other programs may mirror the image: there the results differ. On
processors that compute in bfloat16, BioSegment does, and rounds its probabilities by that.

## Training

{training}
Trained in BioSegment on {created}, as version `{version}`, with {software}.

## Validation

{validation}
Before you rely on the results, annotate some tiles of your own volume that the network has not
seen, and compare: intersection over union of each class is the usual measure.

## Reference

Rombaut, Roels, Saeys: *BioSegment: Active Learning segmentation for 3D electron microscopy
imaging*, 2022, https://ceur-ws.org/Vol-3259/ialatecml_paper2.pdf

## Training on

BioSegment takes this package as the start of another project of the same classes:
`biosegment models PROJECT --add PACKAGE.zip`.
"""


def smallest_px(network: UNet) -> int:
    """Return the smallest side of a tile of which something is left without the halo, in pixels."""
    return 2 * network.reach_px + network.stride


def model_name(class_names: Sequence[str]) -> str:
    """Return a package's name, of letters, digits and spaces, as the specification wants it."""
    plain = [re.sub(r"[^A-Za-z0-9_+() -]", "", name).strip() for name in class_names[1:]]
    return f"BioSegment U-Net {' '.join(filter(None, plain))}"[:MAX_NAME].strip()


def summary(about: PackageCard) -> str:
    """Return a sentence or two on what a network finds."""
    classes = ", ".join(about.class_names)
    text = (
        "A two-dimensional U-Net that segments slices of electron microscopy volumes, trained by "
        f"active learning on {about.labels} labelled tiles. Classes: {classes}."
    )
    return text if len(text) <= MAX_SUMMARY else f"{text[: MAX_SUMMARY - 1]}…"


def page(network: UNet, about: PackageCard) -> str:
    """Return the package's page: Markdown."""
    names = enumerate(about.class_names)
    recipe = ("first_steps", "finetune_steps", "learning_rate", "dice_weight", "batch_size")
    known = [f"{name} {about.training[name]:g}" for name in recipe if name in about.training]
    return _PAGE.format(
        name=model_name(about.class_names),
        summary=summary(about),
        classes="\n".join(f"{index}. {name}" for index, name in names),
        stride=network.stride,
        reach=network.reach_px,
        smallest=smallest_px(network),
        training=f"{about.labels} labelled tiles. Recipe: {', '.join(known)}.",
        created=about.created[:10],
        version=about.version,
        software=", ".join(f"{name} {version}" for name, version in about.software.items()),
        validation=_validation(about),
    )


def _validation(about: PackageCard) -> str:
    known = [f"{name} {iou:.3f}" for name, iou in about.iou.items() if iou is not None]
    if not known:
        return "It was not measured on tiles that it had not seen."
    return (
        f"On {about.iou_tiles} tiles that were labelled after it was trained, and that it had "
        f"chosen and proposed masks for, its intersection over union was: {', '.join(known)}."
    )
