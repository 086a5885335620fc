"""DiT: diffusers' transformer at equal weights, published sizes, patches, what it is told."""

import pytest
import torch

from assay.models import dit
from assay.models.config import DiTConfig
from assay.models.dit import DiT

SMALL = DiTConfig(channels=2, size=6, width=32, layers=2, heads=4)


def stirred(config=SMALL, seed=0):
    """A network none of whose layers is zero."""
    net = DiT(config, seed)
    rng = torch.Generator().manual_seed(seed + 1)
    for p in net.parameters():
        p.data += 0.2 * torch.randn(p.shape, generator=rng)
    return net


def inputs(config=SMALL, n=3, seed=2):
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, config.channels, config.size, config.size, generator=rng)
    return x, 1000 * torch.rand(n, generator=rng)


def peer_of(net):
    """diffusers' DiT with the weights of net: as many copies of the embedding as it has blocks."""
    from diffusers.models.transformers.dit_transformer_2d import DiTTransformer2DModel

    config = net.config
    peer = DiTTransformer2DModel(
        num_attention_heads=config.heads,
        attention_head_dim=config.width // config.heads,
        in_channels=config.channels,
        out_channels=config.channels * (2 if config.learned_sigma else 1),
        num_layers=config.layers,
        sample_size=config.size,
        patch_size=config.patch,
        num_embeds_ada_norm=config.n_labels,
        norm_eps=1e-6,
    ).eval()
    weights = {"pos_embed.proj.weight": net.embed.weight.view_as(peer.pos_embed.proj.weight)}
    weights |= {"pos_embed.proj.bias": net.embed.bias, "proj_out_2.bias": net.head.bias}
    weights |= {"proj_out_2.weight": net.head.weight}
    split = 6 * config.width
    weights |= {"proj_out_1.weight": net.tell.weight[-2 * config.width :]}
    weights |= {"proj_out_1.bias": net.tell.bias[-2 * config.width :]}
    for i, block in enumerate(net.blocks):
        at = f"transformer_blocks.{i}."
        for name, value in block.named_parameters():
            layer, kind = name.split(".")
            if layer == "qkv":
                for one, part in zip("qkv", value.chunk(3), strict=True):
                    weights[f"{at}attn1.to_{one}.{kind}"] = part
            else:
                to = {"mix": "attn1.to_out.0", "up": "ff.net.0.proj", "down": "ff.net.2"}[layer]
                weights[f"{at}{to}.{kind}"] = value
        lines = slice(i * split, (i + 1) * split)
        weights[f"{at}norm1.linear.weight"] = net.tell.weight[lines]
        weights[f"{at}norm1.linear.bias"] = net.tell.bias[lines]
        emb = f"{at}norm1.emb."
        # its waves begin with the cosines, its labels are 0..n-1 with n for none
        columns = torch.arange(dit.FREQUENCIES).roll(dit.FREQUENCIES // 2)
        weights[f"{emb}timestep_embedder.linear_1.weight"] = net.level_in.weight[:, columns]
        weights[f"{emb}timestep_embedder.linear_1.bias"] = net.level_in.bias
        weights[f"{emb}timestep_embedder.linear_2.weight"] = net.level_out.weight
        weights[f"{emb}timestep_embedder.linear_2.bias"] = net.level_out.bias
        weights[f"{emb}class_embedder.embedding_table.weight"] = net.table.roll(-1, 0)
    peer.load_state_dict({k: v.detach().clone() for k, v in weights.items()})
    return peer


@pytest.mark.parametrize(
    "changes", [{}, {"learned_sigma": True}, {"patch": 3}, {"heads": 1, "layers": 3}]
)
def test_against_diffusers_at_equal_weights(changes):
    config = SMALL.model_copy(update={"n_labels": 5, **changes})
    net, (x, level) = stirred(config), inputs(config)
    label = torch.tensor([0, 3, 5])
    with torch.no_grad():
        found = net(x, level, label)
        expected = peer_of(net)(x, level, (label - 1) % 6).sample
    assert found.std() > 0.1
    atol = 1e-4 * found.std().item()
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=atol)


@pytest.mark.parametrize(
    ("width", "heads", "millions"), [(384, 6, 32.5), (768, 12, 129.5)], ids=["S/1", "B/1"]
)
def test_published_sizes(width, heads, millions):
    config = DiTConfig(width=width, heads=heads, learned_sigma=True)
    n = sum(p.numel() for p in DiT(config).parameters())
    assert n == pytest.approx(millions * 1e6, rel=0.005)


def test_new_networks_are_zero_and_their_blocks_the_identity():
    net, (x, level) = DiT(SMALL), inputs()
    assert (net(x, level) == 0).all()
    tokens = torch.randn(3, 36, 32, generator=torch.Generator().manual_seed(0))
    assert torch.equal(net.blocks[0](tokens, torch.zeros(3, 6, 1, 32)), tokens)


def test_gates_start_where_they_are_told_and_nothing_else_does():
    net = DiT(SMALL.model_copy(update={"gate": 0.5}))
    told = net.tell(torch.zeros(1, 32)).view(-1, 32)
    assert (told[[2, 5, 8, 11]] == 0.5).all()
    assert (told[[0, 1, 3, 4, 6, 7, 9, 10, 12, 13]] == 0).all()


def test_first_weights_are_the_seed_s_and_no_global_one_s():
    before = torch.random.get_rng_state()
    first, again, other = (DiT(SMALL, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[k], again[k]) for k in first)
    assert not torch.equal(first["embed.weight"], other["embed.weight"])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_both_attentions_are_the_softmax_product_and_bfloat16_is_near():
    rng = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 81, 16, generator=rng, dtype=torch.float64)
    expected = torch.softmax(q @ k.transpose(-1, -2) / 4, -1) @ v
    torch.testing.assert_close(dit.attend(q, k, v), expected)
    half = [part.bfloat16().requires_grad_() for part in (q, k, v)]
    torch.testing.assert_close(dit.attend(*half).double(), expected, rtol=0.05, atol=0.05)


def test_pairs_add_to_the_logits_and_start_at_nothing():
    rng = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 9, 16, generator=rng, dtype=torch.float64)
    bias = torch.randn(4, 9, 9, generator=rng, dtype=torch.float64)
    expected = torch.softmax(q @ k.transpose(-1, -2) / 4 + bias, -1) @ v
    torch.testing.assert_close(dit.attend(q, k, v, bias), expected, rtol=1e-5, atol=1e-5)
    net = stirred(SMALL.model_copy(update={"patch": 2, "pairs": True}))
    x, level = inputs()
    for block in net.blocks:
        block.pairs.data.zero_()
    plain = DiT(net.config.model_copy(update={"pairs": False}))
    plain.load_state_dict({k: v for k, v in net.state_dict().items() if "pairs" not in k})
    torch.testing.assert_close(net(x, level), plain(x, level), rtol=1e-4, atol=1e-4)


def test_bfloat16_autocast_agrees_and_answers_float32():
    net, (x, level) = stirred(), inputs()
    exact = net(x, level)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(x, level)
    assert found.dtype == torch.float32
    assert (found - exact).norm() < 0.05 * exact.norm()


def test_every_parameter_learns_and_every_patch_sees_every_other():
    config = SMALL.model_copy(update={"n_labels": 3, "amortised": True, "patch": 2})
    net, (x, level) = stirred(config), inputs(config)
    extra = torch.randn(3, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    x.requires_grad_()
    out = net(x, level, torch.tensor([0, 1, 3]), extra)
    assert out.shape == x.shape
    (grad,) = torch.autograd.grad(out[:, 0, 0, 0].sum(), x, retain_graph=True)
    assert torch.equal(grad != 0, (extra[:, -1:] <= 0).expand_as(grad))  # but where x0 is known
    out.square().sum().backward()
    for name, p in net.named_parameters():
        assert p.grad is not None
        lines = p.grad[[0, 1, 3]] if name == "table" else p.grad
        assert (lines.flatten(1) != 0).any(1).all() if lines.ndim > 1 else (lines != 0).any(), name


def test_samples_labels_and_what_is_known_matter_apart():
    config = SMALL.model_copy(update={"n_labels": 3, "amortised": True})
    net, (x, level) = stirred(config), inputs(config)
    label, extra = torch.tensor([0, 1, 3]), torch.zeros(3, 3, 6, 6)
    whole = net(x, level, label, extra)
    torch.testing.assert_close(net(x[1:2], level[1:2], label[1:2], extra[1:2]), whole[1:2])
    torch.testing.assert_close(net(x, level, None, extra)[:1], whole[:1])
    moved = extra.clone()
    moved[2, 2, 0, 0] = 1
    changed = net(x, level, label, moved) != whole
    assert changed.flatten(1).any(1).tolist() == [False, False, True]
    with pytest.raises(AssertionError, match="extra"):
        net(x, level, label)


def test_positions_are_all_different_and_patches_come_back():
    net = DiT(SMALL.model_copy(update={"patch": 3}))
    x = torch.arange(2 * 2 * 36.0).view(2, 2, 6, 6)
    cut = net._patches(x)
    assert cut.shape == (2, 4, 18)
    torch.testing.assert_close(cut[0, 1, :3], x[0, 0, 0, 3:6])
    back = cut.view(2, 4, 2, 9).transpose(2, 3).reshape(2, 4, 18)
    assert torch.equal(net._image(back), x)
    gaps = torch.cdist(net.positions, net.positions) + 10 * torch.eye(4)
    assert gaps.min() > 0.1


def test_bad_sizes_are_refused():
    with pytest.raises(ValueError, match="heads"):
        DiTConfig(width=40, heads=3)
    with pytest.raises(ValueError, match="patch"):
        DiTConfig(size=9, patch=2)
