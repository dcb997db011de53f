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


def test_nothing_is_dropped_before_the_split():
    network = UNet(UNetSpec(2, widths=(4, 8, 8, 8), dropout=0.5)).train()
    # Batch statistics, and so what precedes the split, are the same at every pass.
    images = torch.rand(2, 1, 32, 32)
    one, other = network.encode_shared(images), network.encode_shared(images)
    assert len(one) == 3
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(network.encode(one)[-1], network.encode(one)[-1])


def test_parts_make_the_whole():
    network = UNet(UNetSpec(2, widths=(4, 8, 8), dropout=0.5)).eval()
    images = torch.rand(1, 1, 16, 16)
    levels = network.encode(network.encode_shared(images))
    assert [tuple(level.shape[1:]) for level in levels] == [(4, 16, 16), (8, 8, 8), (8, 4, 4)]
    assert torch.equal(network.head(network.decode(levels)), network(images))


def test_dropout_can_be_chosen_for_a_pass():
    network = UNet(UNetSpec(2, widths=(4, 8, 8), dropout=0.5)).eval()
    dropped = []

    def drop(x):
        dropped.append(x.shape[2])
        return torch.zeros_like(x)

    shared = network.encode_shared(torch.rand(1, 1, 16, 16))
    levels = network.encode(shared, drop)
    assert dropped == [8, 4]
    assert not levels[-1].any()
    assert shared[-1].any()
    network.decode(levels, drop)
    assert dropped == [8, 4, 8]


@pytest.mark.parametrize("widths", [(4, 8), (4, 8, 8), (2, 4, 4, 8)])
def test_a_piece_with_what_the_network_reaches_gives_the_logits_of_the_whole(widths):
    torch.manual_seed(0)
    network = UNet(UNetSpec(2, widths=widths)).double().eval()
    reach, stride = network.reach_px, network.stride
    image = torch.rand(1, 1, 4 * reach + 8 * stride, 2 * reach + 6 * stride, dtype=torch.float64)
    whole = network(image)
    core = slice(2 * reach, 2 * reach + 4 * stride)
    piece = network(image[:, :, core.start - reach : core.stop + reach])
    inner = piece[:, :, reach : reach + 4 * stride]
    torch.testing.assert_close(inner, whole[:, :, core], rtol=0, atol=1e-12)
    # And it is not much more than that.
    near = reach - 2 * stride
    short = network(image[:, :, core.start - near : core.stop + near])[:, :, near:-near]
    assert not torch.allclose(short, whole[:, :, core], rtol=0, atol=1e-12)
