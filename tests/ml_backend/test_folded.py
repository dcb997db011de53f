import torch

from ml_backend.model.folded import folded
from ml_backend.model.unet import UNet, UNetSpec


def test_a_folded_network_gives_the_same_logits_and_leaves_its_origin_alone():
    torch.manual_seed(0)
    network = UNet(UNetSpec(3, widths=(4, 8, 8)))
    images = torch.rand(4, 1, 16, 16)
    with torch.no_grad():
        for _ in range(20):
            # Batch normalisation that does something.
            network(0.3 + images / 2)
        expected = network.eval()(images)
        before = {name: value.clone() for name, value in network.state_dict().items()}
        fast = folded(network, torch.float32)
        torch.testing.assert_close(fast(images), expected, rtol=1e-4, atol=1e-5)
        rough = folded(network, torch.bfloat16)(images)
    assert rough.dtype == torch.bfloat16
    torch.testing.assert_close(rough.float(), expected, rtol=0, atol=0.05 * float(expected.std()))
    assert not [each for each in fast.modules() if isinstance(each, torch.nn.BatchNorm2d)]
    torch.testing.assert_close(network.state_dict(), before, rtol=0, atol=0)
