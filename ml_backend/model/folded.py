"""Networks made faster for prediction."""

import copy
from typing import cast

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ml_backend.model.unet import UNet


def folded(network: UNet, dtype: torch.dtype) -> UNet:
    """Return a copy for prediction alone, whose convolutions do the batch normalisation after them.

    Parameters
    ----------
    network
        In evaluation mode; left unchanged.
    dtype
        Of the weights, and so of all that is computed.
    """
    fast = copy.deepcopy(network)
    for each in (*fast.encoder, *fast.decoder):
        block = cast("nn.Sequential", each)
        for place, layer in enumerate(block):
            if isinstance(layer, nn.BatchNorm2d):
                block[place - 1] = fuse_conv_bn_eval(cast("nn.Conv2d", block[place - 1]), layer)
                block[place] = nn.Identity()
    return fast.to(dtype)
