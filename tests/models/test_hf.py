"""Backbones of transformers: causal, cached as uncached, made from a seed and nothing else."""

from typing import Any

import pytest
import torch

from assay.models.config import TokenNetConfig
from assay.models.hf import TokenNet
from assay.training import optim
from assay.training.config import OptimConfig

KINDS = ("gpt2", "mamba2", "mamba")
TOLERANCE = {"gpt2": 1e-12, "mamba2": 2e-5, "mamba": 2e-5}  # Mambas' scans are in float32


def network(backbone, seed=0, **options):
    """A network in float64, none of whose matrices is zero."""
    values: dict[str, Any] = {"width": 16, "layers": 2, "heads": 4, "state": 4, "chunk": 5}
    values |= {"length": 12, "sizes": (2, 3), "places": (3, 4), "n_labels": 3, **options}
    net = TokenNet(TokenNetConfig(backbone=backbone, **values), seed).double().eval()
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p += 0.2 * torch.randn(p.shape, generator=rng)
    return net


def tokens(n=4, length=12, seed=0):
    return torch.randint(0, 6, (n, length), generator=torch.Generator().manual_seed(seed))


LABEL = torch.tensor([0, 1, 2, 3])


@pytest.mark.parametrize("backbone", KINDS)
@torch.no_grad()
def test_steps_with_a_state_equal_all_at_once(backbone):
    net, x = network(backbone), tokens()
    whole = net(x, LABEL)
    assert whole.shape == (4, 12, 16)
    for known in (0, 1, 6, 11):
        state = net.begin(4)
        found = [net.step(state, x[:, :known], LABEL)]
        found += [net.step(state, x[:, i : i + 1]) for i in range(known, 11)]
        error = (torch.stack(found, 1) - whole[:, known:]).abs().max().item()
        assert error < TOLERANCE[backbone]


@pytest.mark.parametrize("backbone", KINDS)
@torch.no_grad()
def test_hidden_states_know_the_label_and_the_tokens_before_alone(backbone):
    net, x = network(backbone), tokens()
    whole = net(x, LABEL)
    for i in (0, 4, 11):
        y = x.clone()
        y[:, i] = (y[:, i] + 1) % 6
        changed = (net(y, LABEL) - whole).abs().amax((0, 2)) > 1e-9
        assert not changed[: i + 1].any()
        assert changed[i + 1 :].all()
    assert ((net(x, LABEL.roll(1)) - whole).abs().amax((0, 2)) > 1e-9).all()
    torch.testing.assert_close(net(x[:1]), whole[:1])  # no label is label 0


@torch.no_grad()
def test_gpt2_steps_against_transformers_own_cache():
    from transformers import DynamicCache

    net, x = network("gpt2"), torch.randn(3, 12, 16, dtype=torch.float64)
    cache, state = DynamicCache(config=net.backbone.model.config), net.backbone.begin(3)
    for part in (x[:, :5], *x[:, 5:].split(1, 1)):
        theirs = net.backbone.model(inputs_embeds=part, past_key_values=cache, use_cache=True)
        ours = net.backbone.step(state, part)
        torch.testing.assert_close(ours, theirs.last_hidden_state[:, -1])


@torch.no_grad()
def test_gpt2_is_transformers_gpt2_with_its_own_gelu():
    from transformers import GPT2Config, GPT2Model

    options: dict[str, Any] = {"bos_token_id": None, "eos_token_id": None, "vocab_size": 1}
    options |= {"n_positions": 12, "n_embd": 16, "n_layer": 2, "n_head": 4}
    theirs = GPT2Model(GPT2Config(**options)).double().eval()
    net, x = network("gpt2"), torch.randn(3, 12, 16, dtype=torch.float64)
    missing = theirs.load_state_dict(net.backbone.model.state_dict(), strict=False)
    assert missing.missing_keys == ["wte.weight"]
    torch.testing.assert_close(net.backbone(x), theirs(inputs_embeds=x).last_hidden_state)


@pytest.mark.parametrize("backbone", KINDS)
def test_weights_come_from_the_seed_and_no_other_generator_moves(backbone):
    config = TokenNetConfig(backbone=backbone, width=8, layers=1, heads=2, length=4, sizes=(3,))
    before = torch.random.get_rng_state()
    first, again, other = (TokenNet(config, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    for (name, p), q in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(p, q), name
    assert not torch.equal(first.tables[0], other.tables[0])
    mixed = [p for name, p in first.named_parameters() if "c_attn.w" in name or "in_proj" in name]
    others = [p for name, p in other.named_parameters() if "c_attn.w" in name or "in_proj" in name]
    assert not torch.equal(mixed[0], others[0])


@pytest.mark.parametrize("backbone", KINDS)
def test_every_parameter_learns_and_none_is_a_vocabulary(backbone):
    net = network(backbone).train()
    net(tokens(), LABEL).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    assert not any("wte" in name or "embeddings" in name for name, _ in net.named_parameters())


@pytest.mark.parametrize("backbone", KINDS)
def test_muon_takes_the_matrices_inside(backbone):
    net = network(backbone)
    adam, muon = optim.build(net, OptimConfig(kind="muon"))
    taken = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name.split(".")[-2] for name, p in net.named_parameters() if id(p) in taken}
    inside = {"gpt2": {"c_attn", "c_proj", "c_fc"}}
    assert names == inside.get(backbone, {"in_proj", "out_proj"})
    net(tokens(), LABEL).square().sum().backward()
    before = [p.clone() for p in net.parameters()]
    for optimizer in (adam, muon):
        optimizer.step()
    assert not any(map(torch.equal, before, net.parameters()))


def test_dropout_is_drawn_in_training_alone():
    net, x = network("gpt2", dropout=0.5), tokens()
    assert torch.equal(net(x), net(x))
    net.train()
    assert not torch.equal(net(x), net(x))


@pytest.mark.parametrize("backbone", KINDS)
@torch.no_grad()
def test_autocast_steps_are_near_the_exact_ones(backbone):
    net, x = network(backbone).float(), tokens()
    whole, state = net(x), net.begin(4)
    with torch.autocast("cpu", torch.bfloat16):
        found = [net.step(state, x[:, :0])] + [net.step(state, x[:, [i]]) for i in range(11)]
    scale = whole.abs().max()
    assert ((torch.stack(found, 1) - whole).abs().max() / scale).item() < 0.1


def test_places_are_told_for_the_token_and_for_the_next():
    """Equal tokens: without positions of its own Mamba tells places apart by these alone."""
    net, x = network("mamba2", width=8), torch.zeros(1, 12, dtype=torch.long)
    x_embedded = net._start(x[:, :-1], None)[0]
    same = torch.cdist(x_embedded, x_embedded) < 1e-6
    assert torch.equal(same, torch.eye(12, dtype=torch.bool))
    plain = network("mamba2", width=8, places=())
    assert (plain._start(x[:, :-1], None)[0, 1:].std(0) < 1e-6).all()


def test_what_cannot_be_built_is_refused():
    with pytest.raises(ValueError, match="heads"):
        TokenNetConfig(width=10, heads=4)
    with pytest.raises(ValueError, match="heads"):
        TokenNetConfig(backbone="mamba2", width=10, heads=3)
    with pytest.raises(ValueError, match="dropout"):
        TokenNetConfig(backbone="mamba", dropout=0.1)
    with pytest.raises(ValueError, match="places"):
        TokenNetConfig(places=(3, 3))
