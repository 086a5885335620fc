"""The squared error of a denoiser at one noise level, from held-out data alone.

D* = E[x0 | x] is the denoiser that nobody has, R an estimate of it from held-out data
(:mod:`assay.guidance.monitoring.posterior`, :mod:`assay.guidance.monitoring.mixture`), D the one
under test. In units of eps, per sample and summed over coordinates,

    error^2 = E|D - D*|^2 / sigma^2 = E[sigma^2 |score error|^2].

(a) On noised held-out data x = x0 + sigma noise the irreducible part of the loss cancels from

    T = E[(x0 - D) . (R - D)] / sigma^2 = E[(D* - D) . (R - D)] / sigma^2
      = error^2 + E[(D* - D) . (R - D*)] / sigma^2,

because E[x0 | x] = D* and R has never seen the datum's group. R's own error enters only multiplied
by D's: T is 0 on average where D = D*, whatever R is. Noise comes in antithetic pairs +-noise, so
that the part of x0 - D that is noise cancels where R - D is smooth; at small sigma nearly all.
Where R errs as D does (R = D* + b on average over data), T is off by the product of the two; but

    L = E[|x0 - D|^2 - |x0 - R|^2] / sigma^2 + v = error^2 - E|b|^2 / sigma^2,

v the variance of R over data, from the jackknife, is under the squared error always, and by the
square of b only. Where the two differ by more than their noise, the reference shares the error:
:func:`settle` moves from T towards L and widens the interval by as much.

(b) On visited states there is no x0, and the posterior P without smoothing stands in for it:

    J' = E[(P - D) . (R - D)] / sigma^2 - (what the jackknife over groups finds to be its bias),

with R's error of smoothing multiplied by D's as in T, and corrected alike. In many dimensions R is
mostly a model, and J with |R - D|^2 in place of the product stands instead: the mean of few
neighbours is biased there beyond the jackknife's reach. Its difference between visited and
held-out states is added to what (a) found there, group by group, so that what R errs on both
cancels. What J lacks on held-out states is taken to grow on visited ones as J does; half of it,
and half of what it grows by, widen the interval.
States where held-out data are sparser than around 99 % of themselves are left out and counted.

R is the mean of the references with weights >= 0 of sum 1 that have the least held-out loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from assay.guidance.monitoring.mixture import Gaussians
from assay.guidance.monitoring.posterior import Look, Posterior, Reference

_WIDTHS = (0.0, 0.1, 0.3, 1.0)  # of the posterior, in the width of Silverman's rule
_PLAIN = ((1, 0.0, False), (4, 0.0, False))  # centres, shrinkage, a covariance each
_SMALL = ((1, 0.05, False), (1, 0.3, False), (4, 0.05, False), (4, 0.3, False))
_MIXTURES = ((1, 0.0, False), (1, 0.05, False), (4, 0.0, False), (6, 0.02, True))
_FEW = 8  # dimensions up to which smoothing the posterior helps
_WORTH = 1 / 3  # of sigma: narrower widths change nothing
_OFF = 0.01  # of held-out data lie where their density is lower than on the data
_MANY = 10  # times the neighbours in more dimensions, where a mean of few is biased
_SOME = 256  # held-out data at which all groups answer
_HALF = 0.5  # of what a model says amiss on held-out states: it may be otherwise on visited ones
TWICE = 2.0  # a datum speaks for itself and through the reference of the others
_FIRM = 1e3  # weight of the condition that the references' weights sum to 1

Answer = Callable[[np.ndarray, float], np.ndarray]  # (n, d), sigma -> denoised (n, d)


@dataclass(frozen=True, eq=False)
class References:
    """Held-out data (n, d), the group of each, and the references made from them: from all, and
    from all but the first group, whose data then are states that no reference has seen."""

    data: np.ndarray
    group: np.ndarray
    every: tuple[Reference, ...]
    but_first: tuple[Reference, ...]
    n_mixtures: int

    @property
    def raw(self) -> Posterior:
        """The posterior without smoothing."""
        assert isinstance(self.every[0], Posterior)
        return self.every[0]

    @property
    def many(self) -> bool:
        """Whether the data have many dimensions."""
        return self.data.shape[1] > _FEW

    def at(self, sigma: float) -> list[Reference]:
        """Those that differ from each other at this level."""
        return [r for r in self.every if _differs(r, sigma)]

    def probe(self, sigma: float) -> list[Reference]:
        """The same, from all but the first group."""
        return [r for r in self.but_first if _differs(r, sigma)]


def _differs(one: Reference, sigma: float) -> bool:
    return not isinstance(one, Posterior) or one.width == 0 or one.width > _WORTH * sigma


def references(data: np.ndarray, n_groups: int, rng: np.random.Generator) -> References:
    """References from data (n, d), cut at random into groups of equal size."""
    n, d = data.shape
    group = rng.permutation(n) % n_groups
    parts = [data[group == g] for g in range(n_groups)]
    base = float(np.sqrt(data.var(axis=0).mean())) * n ** (-1 / (4 + d))
    widths = _WIDTHS if d <= _FEW else _WIDTHS[:1]
    mixed = _MIXTURES if d > _FEW and n > 4 * d else _SMALL if d > _FEW else _PLAIN

    def made(groups: Sequence[np.ndarray]) -> tuple[Reference, ...]:
        mixtures = [Gaussians(groups, *m) for m in mixed]
        return (*(Posterior(groups, base * w) for w in widths), *mixtures)

    return References(data, group, made(parts), made(parts[1:]), len(mixed))


class HeldOut(NamedTuple):
    """Noised held-out data of one level: x (n m, d), their datum (n m,), R there (n m, d)."""

    x: np.ndarray
    datum: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True, eq=False)
class Level:
    """One noise level: references with their weights, noised data, the density that counts as
    off the data, effective neighbours of held-out data (median), whether mixtures weigh most; what
    references without the first group say at its rows, the variance of R over data in eps."""

    sigma: float
    references: Sequence[Reference]
    weights: np.ndarray
    held_out: HeldOut
    least_density: float
    neighbours: float
    modelled: bool
    own_rows: np.ndarray
    own: Look
    variance: float

    @property
    def name(self) -> str:
        """The reference that weighs most."""
        return self.references[int(np.argmax(self.weights))].name


def level(refs: References, sigma: float, pairs: int, rng: np.random.Generator) -> Level:
    """Noise the data with ``pairs`` antithetic pairs each, and weigh the references there."""
    n, d = refs.data.shape
    half = rng.standard_normal((n, pairs, d))
    noise = np.stack([half, -half], axis=2).reshape(-1, d)
    datum = np.repeat(np.arange(n), 2 * pairs)
    x, own = refs.data[datum] + sigma * noise, refs.group[datum]
    used = refs.at(sigma)
    answers = np.stack([r.unseen(x, sigma, own) for r in used])
    weights = _weights(((refs.data[datum] - answers) / sigma).reshape(len(used), -1))
    first = slice(None, None, 2 * pairs)  # one draw of each datum says where the data are
    crowd = refs.raw.crowd(x[first], sigma, own[first])
    rows = np.flatnonzero(own == 0)[: 2 * _SOME]
    reference = np.tensordot(weights, answers, 1)
    look = _mean(weights, [r.look(x[rows], sigma) for r in refs.probe(sigma)])
    spaced = 2 * pairs * np.linspace(0, n - 1, min(_SOME, n)).astype(int)
    seen = _mean(weights, [r.look(x[spaced], sigma) for r in used])
    return Level(
        sigma, used, weights, HeldOut(x, datum, reference),
        float(np.quantile(crowd.log_density, _OFF)), float(np.median(crowd.neighbours)),
        bool(weights[-refs.n_mixtures :].sum() > 0.5), rows, look,
        _variance(seen.without, own[spaced]) / sigma**2,
    )  # fmt: skip


def _mean(weights: np.ndarray, looks: Sequence[Look]) -> Look:
    whole = np.sum([a * k.whole for a, k in zip(weights, looks, strict=True)], axis=0)
    without = np.sum([a * k.without for a, k in zip(weights, looks, strict=True)], axis=0)
    return Look(whole, without)


def _variance(without: np.ndarray, own: np.ndarray) -> float:
    """Jackknife variance over data of an answer that has not seen the group ``own`` (r,) of its
    state, summed over coordinates, mean over states; from answers (G, r, d) without each group.

    What leaving out another group changes is taken from answers that know the own one, and is too
    little rather than too much.
    """
    n_groups, rows = len(without), np.arange(len(own))
    mean = (without.sum(axis=0) - without[own, rows]) / (n_groups - 1)
    change = without - mean
    change[own, rows] = 0.0
    spread = np.sum(change**2, axis=(0, 2)).mean()
    return float(spread) * (n_groups - 1) / (n_groups - 2)


def _weights(residual: np.ndarray) -> np.ndarray:
    """Weights >= 0 of sum 1 (k,) with the least mean square of their residual (k, m)."""
    gram = residual @ residual.T / residual.shape[1]
    scale = float(np.trace(gram))
    root = np.linalg.cholesky(gram + 1e-12 * scale * np.eye(len(gram))).T
    firm = _FIRM * np.sqrt(scale)
    system = np.concatenate([root, firm * np.ones((1, len(gram)))])
    found = nnls(system, np.append(np.zeros(len(gram)), firm))[0]
    return found / found.sum()


class Held(NamedTuple):
    """T and L of each datum (n,); L's mean lies under the squared error."""

    product: np.ndarray
    loss: np.ndarray


class Settled(NamedTuple):
    """Squared error of each datum (n,), and how much the reference may share of their mean."""

    values: np.ndarray
    shared: float


def held_out_error(at: Level, data: np.ndarray, denoised: np.ndarray) -> Held:
    """T and L of each datum under p_sigma."""
    x0, reference = data[at.held_out.datum], at.held_out.reference
    product = np.sum((x0 - denoised) * (reference - denoised), axis=1)
    loss = np.sum((2 * x0 - denoised - reference) * (reference - denoised), axis=1)
    by_datum = [v.reshape(len(data), -1).mean(axis=1) / at.sigma**2 for v in (product, loss)]
    return Held(by_datum[0], by_datum[1] + at.variance)


def settle(held: Held) -> Settled:
    """Between T and L: at L where it is above T beyond noise, half way where it is below."""
    apart = held.loss - held.product
    mean, se = float(apart.mean()), TWICE * float(apart.std(ddof=1)) / np.sqrt(len(apart))
    sure = max(0.0, 1 - (se / mean) ** 2) if mean else 0.0
    part = sure if mean > 0 else sure / 2
    return Settled(held.product + part * apart, sure * abs(mean) / 2)


class Surrounding(NamedTuple):
    """Reference and posterior (whole (n, d), without each group (G, n, d)) on visited states;
    effective neighbours (n,), and whether each state is among the held-out data (n,)."""

    reference: Look
    raw: Look
    neighbours: np.ndarray
    on_data: np.ndarray

    def part(self, own: slice) -> Surrounding:
        """Of some of the states."""
        looks = [Look(k.whole[own], k.without[:, own]) for k in (self.reference, self.raw)]
        return Surrounding(looks[0], looks[1], self.neighbours[own], self.on_data[own])


def surround(at: Level, refs: References, x: np.ndarray) -> Surrounding:
    """What held-out data say at visited states x (n, d)."""
    raw, crowd = refs.raw.survey(x, at.sigma)
    on_data = crowd.log_density >= at.least_density
    if refs.many:
        looks = [r.look(x, at.sigma) for r in refs.probe(at.sigma)]
        return Surrounding(_mean(at.weights, looks), looks[0], crowd.neighbours, on_data)
    looks = [raw if r is refs.raw else r.look(x, at.sigma) for r in at.references]
    return Surrounding(_mean(at.weights, looks), raw, crowd.neighbours, on_data)


class Visited(NamedTuple):
    """Parts whose means add up to error^2: of groups (G,), of each datum (n,). Their noise: of
    each state (m,), of each held-out state (r,), and the allowance for a shared error. needed:
    how many neighbours an answer needs where there are too few, else None."""

    values: np.ndarray
    base: np.ndarray
    states: np.ndarray
    own: np.ndarray
    allowance: float
    needed: float | None


class Asked(NamedTuple):
    """The denoiser at one level: T and L, and its answers (r, d) at rows of held-out states."""

    held: Held
    own: np.ndarray


def visited_error(
    at: Level, around: Surrounding, denoised: np.ndarray, asked: Asked, neighbours: float
) -> Visited:
    """error^2 of the denoiser's values (n, d) on visited states among the data.

    neighbours: how many the posterior needs, by median, to answer; ten times as many in more than
    eight dimensions.
    """
    on = around.on_data if around.on_data.sum() > 1 else np.ones(len(denoised), dtype=bool)
    whole, without = around.reference
    many = denoised.shape[1] > _FEW
    needed = neighbours * (_MANY if many else 1)
    crowded = bool(np.median(around.neighbours[on]) >= needed)
    other, others = around.raw if crowded else around.reference
    first, firsts = (whole[on], other[on]), (without[:, on], others[:, on])
    values, states = _jackknife(at.sigma, first, firsts, denoised[on])
    settled = settle(asked.held)
    if crowded or not (many and at.modelled):
        base = settled.values - asked.held.product
        lacking = None if crowded else needed
        none = np.zeros(len(asked.own))
        return Visited(values, base, states, none, settled.shared, lacking)
    whole, without = at.own
    theirs, own = _jackknife(at.sigma, (whole, whole), (without, without), asked.own)
    lacking = float(settled.values.mean() - theirs.mean())
    more = _more(lacking, float(theirs.mean()))
    grown = more * (values - theirs).mean()
    allowance = np.sqrt(settled.shared**2 + (_HALF * lacking) ** 2 + (_HALF * grown) ** 2)
    further, states, own = (v * (1 + more) for v in (values - theirs, states, own))
    return Visited(further, settled.values, states, own, float(allowance), None)


def _more(lacking: float, held: float) -> float:
    """What J lacks on held-out states as a share of it, from -1/2 to 1; 0 where J is no error."""
    return float(np.clip(lacking / held, -_HALF, 1.0)) if held > 0 else 0.0


def _jackknife(
    sigma: float,
    whole: tuple[np.ndarray, np.ndarray],
    without: tuple[np.ndarray, np.ndarray],
    denoised: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Pseudo-values (G,) of the mean over states of (A - D) . (B - D) / sigma^2, and it (n,)."""
    a, b = whole
    states = np.sum((a - denoised) * (b - denoised), axis=1) / sigma**2
    parts = np.mean(np.sum((without[0] - denoised) * (without[1] - denoised), axis=2), axis=1)
    n_groups = len(parts)
    return n_groups * states.mean() - (n_groups - 1) * parts / sigma**2, states
