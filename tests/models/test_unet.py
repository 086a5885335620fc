"""The U-Net: published sizes, kernels against torch's own, what it is told and when it drops."""

import pytest
import torch
import torch.nn.functional as F

from assay.models import unet
from assay.models.config import UNetConfig
from assay.models.unet import UNet

SMALL = UNetConfig(channels=2, width=8, blocks=1, dropout=0.3, n_labels=3, amortised=True)


def inputs(n=3, seed=0):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 2, 9, 9, generator=rng)
    extra = torch.randn(n, 3, 9, 9, generator=rng)
    return x, torch.randn(n, generator=rng), torch.arange(n) % 4, extra


def image(kernel):
    """A kernel (out, 9 * 5) as torch has them."""
    return kernel.view(-1, 3, 3, 5).permute(0, 3, 1, 2)


def awake(config=SMALL, seed=0):
    """A network whose branches and last kernel do not start at 0."""
    net, rng = UNet(config, seed), torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.1 * torch.randn(p.shape, generator=rng)
    return net


@pytest.mark.parametrize(
    ("width", "blocks", "published"), [(64, 1, 11.5e6), (128, 2, 63e6), (192, 3, 181e6)]
)
def test_published_sizes_have_the_published_numbers_of_parameters(width, blocks, published):
    with torch.device("meta"):
        net = UNet(UNetConfig(width=width, blocks=blocks))
    assert sum(p.numel() for p in net.parameters()) == pytest.approx(published, rel=0.05)


@pytest.mark.parametrize("size", [9, 3, 1])
def test_convolve_against_torch(size):
    rng = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(4, 5, size, size, generator=rng), torch.randn(6, 45, generator=rng)
    expected = F.conv2d(x, image(kernel), padding=1)
    torch.testing.assert_close(unet.convolve(x, kernel), expected, rtol=1e-5, atol=1e-5)
    one = torch.randn(6, 5, generator=rng)
    expected = F.conv2d(x, one[..., None, None])
    torch.testing.assert_close(unet.convolve(x, one), expected, rtol=1e-5, atol=1e-5)


def test_convolution_at_size_3_is_the_same_as_one_product():
    """In bfloat16, as autocast runs it, within its rounding; in float32 exactly the same sum."""
    rng = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(4, 5, 3, 3, generator=rng), torch.randn(6, 45, generator=rng)
    expected = F.conv2d(x, image(kernel), padding=1)
    torch.testing.assert_close(unet._gathered(x, kernel), expected, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        found = unet.convolve(x, kernel)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.05, atol=0.1)


def test_shrink_and_grow_against_torch():
    rng = torch.Generator().manual_seed(0)
    x, kernel = torch.randn(4, 5, 9, 9, generator=rng), torch.randn(6, 45, generator=rng)
    full = image(kernel)
    expected = F.conv2d(x, full, stride=3)
    torch.testing.assert_close(unet.shrink(x, kernel), expected, rtol=1e-5, atol=1e-5)
    expected = F.conv_transpose2d(x, full.transpose(0, 1).contiguous(), stride=3)
    torch.testing.assert_close(unet.grow(x, kernel), expected, rtol=1e-5, atol=1e-5)


def test_plans_pair_every_output_of_the_encoder():
    for config in (UNetConfig(), SMALL, UNetConfig(lean=True, multipliers=(1, 4), blocks=3)):
        encoder, decoder = unet.plan(config)
        joins = [spec for spec in decoder if spec.joins]
        assert len(joins) == len(encoder) + 1
        assert [spec.size for spec in joins][-1] == config.size
        assert decoder[-1].c_out == config.width * config.multipliers[0]


def test_a_new_network_answers_0():
    assert (UNet(SMALL)(*inputs()) == 0).all()


def test_every_input_matters_and_samples_do_not_mix():
    net = awake().double()
    x, level, label, extra = (t.double() if t.is_floating_point() else t for t in inputs())
    out = net(x, level, label, extra)
    assert out.shape == x.shape
    for changed in (
        (x + 0.1, level, label, extra),
        (x, level + 0.1, label, extra),
        (x, level, (label + 1) % 4, extra),
        (x, level, label, extra + 0.1),
    ):
        assert ((net(*changed) - out).abs().amax((1, 2, 3)) > 1e-4).all()
    none = net(x, level, None, extra)
    torch.testing.assert_close(none, net(x, level, torch.zeros(3, dtype=torch.long), extra))
    alone = net(x[1:2], level[1:2], label[1:2], extra[1:2])
    torch.testing.assert_close(alone, out[1:2])


@pytest.mark.parametrize("lean", [False, True])
def test_every_parameter_is_learned(lean):
    """A gradient for each but the outer entries of kernels at size 1, which lean ones lack."""
    net = awake(SMALL.model_copy(update={"lean": lean}))
    net(*inputs(8)).square().sum().backward()
    untouched = [name for name, p in net.named_parameters() if p.grad is None]
    assert not untouched
    share = [(p.grad != 0).float().mean().item() for p in net.parameters() if p.grad is not None]
    assert min(share) > (0.6 if lean else 0.1)


def test_dropout_only_with_a_generator_and_from_it_alone():
    net, given = awake(), inputs()
    torch.testing.assert_close(net(*given), net(*given), rtol=0, atol=0)
    first, again, other = (net(*given, torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    assert (first != other).any()
    assert (first != net(*given)).any()
    x = torch.ones(200, 100)
    kept = unet.dropout(x, 0.3, torch.Generator().manual_seed(0))
    assert kept.unique().tolist() == pytest.approx([0.0, 1 / 0.7])
    assert abs((kept > 0).float().mean() - 0.7) < 5 * (0.21 / 20_000) ** 0.5  # fails below 1e-6


def test_bf16_agrees_with_fp32():
    net, given = awake(), inputs(16)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(*given)
    assert found.dtype == torch.float32
    expected = net(*given)
    assert (found - expected).norm() < 0.03 * expected.norm()


def test_the_same_seed_gives_the_same_weights():
    first, again, other = UNet(SMALL, 1), UNet(SMALL, 1), UNet(SMALL, 2)
    for a, b in zip(first.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    assert (first.enter != other.enter).any()


def test_bad_configurations_are_refused():
    with pytest.raises(ValueError, match="multipliers"):
        UNetConfig(multipliers=())
    with pytest.raises(ValueError, match="not divisible by 3"):
        UNetConfig(size=8)
