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

(b) On visited states there is no x0, and the posterior P without smoothing stands in for it:

    J' = E[(P - D) . (R - D)] / sigma^2 - (what the jackknife over groups finds to be its bias),

with R's error of smoothing multiplied by D's as in T. In many dimensions R is mostly a model, and
J with |R - D|^2 in place of the product stands instead: the mean of few neighbours is biased there
beyond the jackknife's reach. What J says on held-out states beyond T is the model's own error, and
widens J's interval.
States where held-out data are sparser than around 99 % of themselves are left out and counted.

R is the mean of the references with weights >= 0 of sum 1 that have the least held-out loss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import nnls

from assay.guidance.monitoring.mixture import Gaussians
from assay.guidance.monitoring.posterior import Look, Posterior, Reference

_WIDTHS = (0.0, 0.1, 0.3, 1.0)  # of the posterior, in the width of Silverman's rule
_FEW = 8  # dimensions up to which smoothing the posterior helps
_WORTH = 1 / 3  # of sigma: narrower widths change nothing
_OFF = 0.01  # of held-out data lie where their density is lower than on the data
_MANY = 10  # times the neighbours in more dimensions, where a mean of few is biased
_SOME = 256  # held-out states at which a model is compared with T
_FIRM = 1e3  # weight of the condition that the references' weights sum to 1

Answer = Callable[[np.ndarray, float], np.ndarray]  # (n, d), sigma -> denoised (n, d)


@dataclass(frozen=True, eq=False)
class References:
    """Held-out data (n, d), the group of each, and the references made from them."""

    data: np.ndarray
    group: np.ndarray
    n_groups: int
    posteriors: tuple[Posterior, ...]
    mixtures: tuple[Gaussians, ...]

    @property
    def raw(self) -> Posterior:
        """The posterior without smoothing."""
        return self.posteriors[0]

    def at(self, sigma: float) -> list[Reference]:
        """Those that differ from each other at this level."""
        worth = [p for p in self.posteriors if p.width == 0 or p.width > _WORTH * sigma]
        return [*worth, *self.mixtures]


def references(data: np.ndarray, n_groups: int, rng: np.random.Generator) -> References:
    """References from data (n, d), cut at random into groups of equal size."""
    n, d = data.shape
    group = rng.permutation(n) % n_groups
    parts = [data[group == g] for g in range(n_groups)]
    base = float(np.sqrt(data.var(axis=0).mean())) * n ** (-1 / (4 + d))
    widths = _WIDTHS if d <= _FEW else _WIDTHS[:1]
    many = (1, 4) if n >= 40 else (1,)
    shrunk = (0.0, 0.05) if n > 4 * d else (0.05, 0.3)
    mixtures = [Gaussians(parts, k, s) for k in many for s in (shrunk if d > _FEW else (0.0,))]
    return References(
        data, group, n_groups, tuple(Posterior(parts, base * w) for w in widths), tuple(mixtures)
    )


class HeldOut(NamedTuple):
    """Noised held-out data of one level: x (n m, d), their datum (n m,), R there (n m, d)."""

    x: np.ndarray
    datum: np.ndarray
    reference: np.ndarray


@dataclass(frozen=True, eq=False)
class Level:
    """One noise level: references with their weights, noised data, the density that counts as
    off the data, effective neighbours of held-out data (median); where R is a model of many
    dimensions, also what it says at some rows of the held-out states."""

    sigma: float
    references: Sequence[Reference]
    weights: np.ndarray
    held_out: HeldOut
    least_density: float
    neighbours: float
    own: Surrounding | None = None
    own_rows: np.ndarray | None = None

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
    found = Level(
        sigma, used, weights, HeldOut(x, datum, np.tensordot(weights, answers, 1)),
        float(np.quantile(crowd.log_density, _OFF)), float(np.median(crowd.neighbours)),
    )  # fmt: skip
    model = weights[-len(refs.mixtures) :].sum() > 0.5
    if d <= _FEW or not model:
        return found
    rows = rng.choice(len(x), min(_SOME, len(x)), replace=False)
    return replace(found, own=surround(found, refs, x[rows]), own_rows=rows)


def _weights(residual: np.ndarray) -> np.ndarray:
    """Weights >= 0 of sum 1 (k,) with the least mean square of their residual (k, m)."""
    gram = residual @ residual.T / residual.shape[1]
    scale = float(np.trace(gram))
    root = np.linalg.cholesky(gram + 1e-12 * scale * np.eye(len(gram))).T
    firm = _FIRM * np.sqrt(scale)
    system = np.concatenate([root, firm * np.ones((1, len(gram)))])
    found = nnls(system, np.append(np.zeros(len(gram)), firm))[0]
    return found / found.sum()


def held_out_error(at: Level, data: np.ndarray, denoised: np.ndarray) -> np.ndarray:
    """T of each datum (n,): their mean estimates error^2 under p_sigma."""
    gap = (data[at.held_out.datum] - denoised) * (at.held_out.reference - denoised)
    return gap.sum(axis=1).reshape(len(data), -1).mean(axis=1) / at.sigma**2


class Surrounding(NamedTuple):
    """Reference and posterior (whole (n, d), without each group (G, n, d)) on visited states;
    effective neighbours (n,), and whether each state is among the held-out data (n,)."""

    reference: Look
    raw: Look
    neighbours: np.ndarray
    on_data: np.ndarray


def surround(at: Level, refs: References, x: np.ndarray) -> Surrounding:
    """What held-out data say at visited states x (n, d)."""
    raw, crowd = refs.raw.survey(x, at.sigma)
    looks = [raw if r is refs.raw else r.look(x, at.sigma) for r in at.references]
    whole = np.sum([a * k.whole for a, k in zip(at.weights, looks, strict=True)], axis=0)
    without = np.sum([a * k.without for a, k in zip(at.weights, looks, strict=True)], axis=0)
    on_data = crowd.log_density >= at.least_density
    return Surrounding(Look(whole, without), raw, crowd.neighbours, on_data)


class Visited(NamedTuple):
    """Jackknife values of error^2 (G,), each state's part of it (n,), how far R may be off as a
    model (0 where it need not be asked), how many neighbours an answer needs where there are too
    few, else None."""

    values: np.ndarray
    states: np.ndarray
    allowance: float
    needed: float | None


def visited_error(
    at: Level, around: Surrounding, denoised: np.ndarray, neighbours: float, excess: float | None
) -> Visited:
    """J' of the denoiser's values (n, d) on visited states among the data, or J.

    neighbours: how many the posterior needs, by median, for J', ten times as many where the
    dimensions are; excess: J less T on held-out states where R is a model and J answers, else
    None.
    """
    on = around.on_data if around.on_data.sum() > 1 else np.ones(len(denoised), dtype=bool)
    whole, without = around.reference
    many = denoised.shape[1] > _FEW
    needed = neighbours * (_MANY if many else 1)
    crowded = excess is None and bool(np.median(around.neighbours[on]) >= needed)
    other, others = around.raw if crowded else around.reference
    first, firsts = (whole[on], other[on]), (without[:, on], others[:, on])
    values = _jackknife(at.sigma, first, firsts, denoised[on])
    gap = (first[0] - denoised[on]) * (first[1] - denoised[on])
    states = gap.sum(axis=1) / at.sigma**2
    if crowded:
        return Visited(values, states, 0.0, None)
    return Visited(values, states, max(excess or 0.0, 0.0), needed if excess is None else None)


def model_excess(at: Level, refs: References, denoised: np.ndarray, held: float) -> float | None:
    """J less T = ``held`` on a part of the held-out states, of the denoiser's values there.

    None where the reference at this level is no model of many dimensions.
    """
    if at.own is None:
        return None
    whole, without = at.own.reference
    few = denoised[at.own_rows]
    return float(_jackknife(at.sigma, (whole, whole), (without, without), few).mean()) - held


def _jackknife(
    sigma: float,
    whole: tuple[np.ndarray, np.ndarray],
    without: tuple[np.ndarray, np.ndarray],
    denoised: np.ndarray,
) -> np.ndarray:
    """Pseudo-values (G,) of the mean over states of (A - D) . (B - D) / sigma^2."""
    a, b = whole
    full = float(np.mean(np.sum((a - denoised) * (b - denoised), axis=1)))
    parts = np.mean(np.sum((without[0] - denoised) * (without[1] - denoised), axis=2), axis=1)
    n_groups = len(parts)
    return (n_groups * full - (n_groups - 1) * parts) / sigma**2
