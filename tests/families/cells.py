"""Networks over cells whose laws are known exactly: a joint law, and conditionals at odds."""

import itertools
from types import SimpleNamespace

import numpy as np
import torch
from scipy import stats


def words(n_tokens, length):
    """int64 (n_tokens^length, length): every sequence, in their order as numbers."""
    return torch.tensor(list(itertools.product(range(n_tokens), repeat=length)))


def numbers(x, n_tokens):
    """The number in `words` of each sequence (n, length)."""
    return (x * n_tokens ** torch.arange(x.shape[1] - 1, -1, -1)).sum(1)


def open_head(family):
    """Make the head's law the softmax of the vectors handed to it."""
    family.head.double()
    with torch.no_grad():
        family.head.out.copy_(torch.eye(family.head.n_tokens))
        family.head.bias.zero_()
    return family.eval()


class Exact(torch.nn.Module):
    """Knows a random joint law for each label (the first is none's); vectors are log p."""

    def __init__(self, grid=(1, 2, 2), n_tokens=3, n_labels=0, seed=0):
        super().__init__()
        self.n_tokens, length = n_tokens, int(np.prod(grid))
        self.config = SimpleNamespace(
            grid=grid, sizes=(n_tokens,), n_labels=n_labels, trunk=SimpleNamespace(width=n_tokens)
        )
        self.words = words(n_tokens, length)
        rng = np.random.default_rng(seed)
        self.laws = torch.from_numpy(
            rng.dirichlet(np.full(len(self.words), 0.4), n_labels + 1) + 1e-6
        )
        self.laws /= self.laws.sum(1, keepdim=True)
        self.law = self.laws[0]
        self.marks = torch.nn.functional.one_hot(self.words, n_tokens).double()

    def posterior(self, x, known, label=None):
        """(n, words): the law of all words given the cells of x (n, L) that are known."""
        given = torch.nn.functional.one_hot(x.masked_fill(~known, 0), self.n_tokens)
        given = (given * known[..., None]).flatten(1).double()
        fits = given @ self.marks.flatten(1).T > known.sum(1, keepdim=True) - 0.5
        law = self.law if label is None else self.laws[label]
        p = torch.where(fits, law, 0.0)
        return p / p.sum(1, keepdim=True)

    def fill(self, x, unknown, label=None, rng=None):
        p = self.posterior(x, ~unknown, label) @ self.marks.flatten(1)
        return p.view(*x.shape, self.n_tokens).clamp(min=1e-300).log()

    def begin(self, n):
        return None

    def ahead(self, seq, places, label=None, span=None, cache=None, rng=None):
        x = torch.empty_like(seq).scatter_(1, places, seq)
        rank = torch.empty_like(places).scatter_(
            1, places, torch.arange(places.shape[1]).expand_as(places)
        )
        out = []
        start, stop = span or (0, seq.shape[1])
        for j in range(start, stop):
            log_p = self.fill(x, rank >= j, label)
            out.append(log_p[torch.arange(len(seq)), places[:, j]])
        return torch.stack(out, 1)


class Odd(torch.nn.Module):
    """Conditional laws of their own for every state, which agree with no joint law."""

    def __init__(self, grid=(1, 2, 2), n_tokens=2, seed=0):
        super().__init__()
        self.n_tokens, self.length = n_tokens, int(np.prod(grid))
        self.config = SimpleNamespace(
            grid=grid, sizes=(n_tokens,), n_labels=0, trunk=SimpleNamespace(width=n_tokens)
        )
        rng = torch.Generator().manual_seed(seed)
        shape = ((n_tokens + 1) ** self.length, self.length, n_tokens)
        table = torch.randn(shape, generator=rng, dtype=torch.float64)
        self.table = (1.5 * table).log_softmax(-1)

    def fill(self, x, unknown, label=None, rng=None):
        state = x.masked_fill(unknown, self.n_tokens)
        return self.table[numbers(state, self.n_tokens + 1)]

    def log_prob(self, x, order):
        """(n,): log p of x (n, L) revealed in the order given, after what is not in it."""
        unknown = torch.zeros_like(x, dtype=torch.bool)
        unknown[:, list(order)] = True
        total = torch.zeros(len(x), dtype=torch.float64)
        for cell in order:
            total += self.fill(x, unknown)[torch.arange(len(x)), cell, x[:, cell]]
            unknown[:, cell] = False
        return total


def follows(x, law, n_tokens, p_value=1e-4):
    """Whether draws x (n, L) may come from the law of all words: chi-square at p > p_value."""
    expected = law.numpy() * len(x)
    counts = np.bincount(numbers(x, n_tokens).numpy(), minlength=len(expected))
    if counts[expected == 0].sum():
        return False
    often = expected >= 5
    expected = np.append(expected[often], expected[~often].sum() + 1e-9)
    counts = np.append(counts[often], counts[~often].sum())
    return stats.chisquare(counts, expected).pvalue > p_value
