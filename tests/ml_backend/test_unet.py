import pytest
import torch

from ml_backend.model.unet import UNet, UNetSpec


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("shape", [(16, 16), (32, 80)])
def test_logits_of_every_class_and_pixel(classes, shape):
    network = UNet(UNetSpec(classes, widths=(4, 8, 8, 8, 8))).eval()
    assert network(torch.rand(2, 1, *shape)).shape == (2, classes, *shape)


def test_stride_follows_the_depth():
    assert UNet(UNetSpec(2)).stride == 16
    assert UNet(UNetSpec(2, widths=(4, 8))).stride == 2


def test_default_network_is_small():
    """A quarter of the paper's widths: about 1.9 million parameters, 8 MB on disk."""
    assert 1.8e6 < sum(each.numel() for each in UNet(UNetSpec(2)).parameters()) < 2.1e6


def test_only_deep_levels_drop_activations():
    torch.manual_seed(0)
    network = UNet(UNetSpec(2, widths=(4, 8, 8), dropout=0.5)).eval()
    images = torch.rand(1, 1, 16, 16)
    steady = network(images)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    assert not torch.equal(network(images), steady)
    shallow = network.encoder[0]
    assert not any(isinstance(module, torch.nn.Dropout) for module in shallow.modules())
    assert torch.equal(network.encoder[0](images), shallow(images))


def test_without_dropout_evaluation_is_repeatable():
    network = UNet(UNetSpec(2, widths=(4, 8), dropout=0.0)).eval()
    images = torch.rand(1, 1, 8, 8)
    assert torch.equal(network(images), network(images))
