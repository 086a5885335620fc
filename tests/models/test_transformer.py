"""The trunk: causal, the same with and without a cache, the identity at first, dropout by hand."""

import pytest
import torch

from assay.models.config import TransformerConfig
from assay.models.transformer import Transformer, dropout

CONFIG = TransformerConfig(width=24, layers=3, heads=4, mlp=2.0)


def trunk(config=CONFIG, seed=0):
    """A trunk none of whose matrices is zero."""
    rng = torch.Generator().manual_seed(seed)
    model = Transformer(config, rng)
    for p in model.parameters():
        p.data += 0.3 * torch.randn(p.shape, generator=rng)
    return model.double()


def inputs(n=3, t=10, seed=1):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(n, t, CONFIG.width, generator=rng, dtype=torch.float64)


def test_causal_outputs_depend_on_earlier_inputs_only():
    x = inputs().requires_grad_()
    for position in (0, 4, 9):
        (grad,) = torch.autograd.grad(trunk()(x)[:, position].sum(), x)
        moved = grad.abs().sum((0, 2)) > 0
        assert moved.tolist() == [i <= position for i in range(10)]


def test_bidirectional_outputs_depend_on_every_input():
    x = inputs().requires_grad_()
    model = trunk(CONFIG.model_copy(update={"causal": False}))
    (grad,) = torch.autograd.grad(model(x)[:, 0].sum(), x)
    assert (grad.abs().sum((0, 2)) > 0).all()


@pytest.mark.parametrize("parts", [[10], [1] * 10, [4, 1, 3, 2]])
def test_cached_equals_uncached(parts):
    model, x = trunk(), inputs()
    cache, out, start = model.cache(3, 10), [], 0
    with torch.no_grad():
        for size in parts:
            out.append(model(x[:, start : start + size], cache))
            start += size
        torch.testing.assert_close(torch.cat(out, 1), model(x), rtol=1e-12, atol=1e-12)


def test_a_new_trunk_is_its_output_norm():
    model = Transformer(CONFIG, torch.Generator().manual_seed(0))
    x = inputs().float()
    torch.testing.assert_close(model(x), model.norm(x))
    variance = model(x).var(-1, correction=0)
    torch.testing.assert_close(variance, torch.ones_like(variance), rtol=1e-3, atol=0)


def test_samples_do_not_see_each_other():
    model, x = trunk(), inputs()
    torch.testing.assert_close(model(x)[1:2], model(x[1:2]), rtol=1e-12, atol=1e-12)


def test_dropout_is_unbiased_and_only_by_its_generator():
    """A mean over 200,000 entries within 5 standard errors."""
    x = torch.ones(200_000)
    found = dropout(x, 0.25, torch.Generator().manual_seed(0))
    assert set(found.tolist()) == {0.0, float(torch.tensor(1 / 0.75))}
    assert abs(found.mean().item() - 1) < 5 * (0.25 / 0.75 / 200_000) ** 0.5
    assert dropout(x, 0.25, None) is x
    model = trunk(CONFIG.model_copy(update={"dropout": 0.5}))
    torch.testing.assert_close(model(inputs()), model(inputs()), rtol=0, atol=0)
    noisy = [model(inputs(), rng=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="heads"):
        TransformerConfig(width=10, heads=4)
