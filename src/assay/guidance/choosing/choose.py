"""Choosing w: the strongest guidance that keeps a stated criterion, with the evidence for it.

``choose`` maximises log(1 + w) over the weights at which every constraint of a
:class:`~assay.guidance.choosing.criterion.Criterion` holds, from few samples of few weights, and
returns a weight only where all of them were shown to hold with the asked confidence
(:mod:`assay.guidance.choosing.search` has the method and its guarantee). Costs are network
evaluations, to be read against a grid of 26 weights with ``cap`` samples each.

    choice = choose(cond, uncond, "off_support < 1%; diversity >= 80%", data=heldout)
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field, model_validator

from assay.core import special
from assay.guidance import config, pairs
from assay.guidance.choosing import criterion as criteria
from assay.guidance.choosing import draw as choosing_draw
from assay.guidance.choosing.criterion import Criterion
from assay.guidance.choosing.draw import PairSampler, Sampler
from assay.guidance.choosing.search import GRAIN, SPEND, SPEND_ZERO, Place, Plan, Search

GRID_SIZE = 26  # w = 0 and 25 weights, even in ln w over [0.1, 30]
_TOLERANCE = 0.02  # of log(1 + w), where the search may end


class Settings(config._Config):
    """How a choice is made.

    cap: most samples of one weight; first: samples of the first look [default: cap / 16, at
    least 128]; w_max: the largest weight considered; budget: share of the grid's evaluations
    after which no further weight is tried; coarse_steps: steps of the solver that looks for a
    weight (None: the full one); false_rate: of the support estimated from data; simulation:
    solver, grid and seed (its n is not used).
    """

    cap: int = Field(default=4096, ge=128, le=10_000_000)
    first: int | None = Field(default=None, ge=32)
    w_max: float = Field(default=30.0, gt=0, le=1e4)
    budget: float = Field(default=0.2, gt=0)
    coarse_steps: int | None = Field(default=16, ge=2)
    false_rate: float = Field(default=0.01, gt=0, lt=0.5)
    simulation: config.Simulation = config.Simulation()

    @model_validator(mode="after")
    def _order(self) -> Settings:
        if self.first is not None and self.first > self.cap:
            raise ValueError(f"first {self.first} exceeds cap {self.cap}; take a smaller first")
        return self


@dataclass(frozen=True)
class Choice:
    """The weight chosen and why.

    verdict: "satisfied" (every constraint was shown at w), "violated" (even w = 0 was shown to
    break one, and no other weight was shown to keep all; w is 0), "undecided" (no weight was
    shown to keep all; w is 0). rows: one for each weight looked at or tested. nfe: network
    evaluations in all; grid_share: of those of a grid of 26 weights with ``cap`` samples each.
    notes: what to know besides, such as a violation at a smaller weight.
    """

    w: float
    verdict: str
    reason: str
    criterion: Criterion
    support: str
    rows: tuple[dict[str, Any], ...]
    nfe: int
    grid_share: float
    seed: int
    notes: tuple[str, ...] = ()

    @property
    def guidance_scale(self) -> float:
        """1 + w."""
        return 1 + self.w

    def __str__(self) -> str:
        return (
            f"w = {self.w:.3g} (guidance_scale {self.guidance_scale:.3g}), {self.verdict}. "
            f"{self.reason} {self.nfe:,} network evaluations, {100 * self.grid_share:.1f} % of a "
            f"grid's."
        )

    def _repr_html_(self) -> str:
        from assay.terminal import cell

        shown = [k for k in _SHOWN if any(row.get(k) is not None for row in self.rows)]
        head = "".join(f"<th>{html.escape(k)}</th>" for k in shown)
        body = "".join(
            "<tr>"
            + "".join(f"<td>{html.escape(cell(row.get(k), 4))}</td>" for k in shown)
            + "</tr>"
            for row in self.rows
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return (
            f"<p><b>{html.escape(str(self))}</b></p><p>{html.escape(str(self.criterion))} "
            f"Support: {html.escape(self.support)}.</p>{notes}"
            f"<table><tr>{head}</tr>{body}</table>"
        )


_SHOWN = (
    "phase", "w", "guidance_scale", "n", "verdict", "off_support", "off_support_high",
    "off_support_plain", "diversity", "diversity_low", "returned", "returned_high", "odds_gain",
    "odds_gain_low", "alpha",
)  # fmt: skip


def choose(
    cond: Any,
    uncond: Any,
    criterion: Criterion | str,
    data: Any = None,
    support: Any = None,
    odds: Callable[[Any], Any] | None = None,
    settings: Settings | None = None,
) -> Choice:
    """The largest w whose samples of (1+w) cond - w uncond are shown to keep the criterion.

    cond, uncond: callables (x, sigma) -> denoised, x (n, *shape), numpy or torch. criterion: a
    Criterion or its text, such as "off_support < 1%; diversity >= 80%". data: samples
    (m, *shape) of the class that were kept out of training: they give the shape and, where no
    ``support`` is given, a support estimate whose false-alarm rate on real data is stated.
    support: (low, high) of numbers or vectors, or a callable x (n, d) -> bool (n,), True inside.
    odds: x (n, d) -> log odds of the class (n,), for odds_gain. settings: samples, solver, seed.

    Same seed, same answer. ValueError for a criterion that cannot be read or cannot be measured
    with what is given, and for a cap too small to show it.
    """
    criterion = criteria.coerced(criterion)
    settings = settings or Settings()
    if settings.simulation.solver == "exact":
        raise ValueError("solver 'exact' draws no samples; take heun")
    kept = None if data is None else special.as_float64(data)
    box = None if isinstance(support, choosing_draw.Support) else support
    shape = pairs._shape(cond, box, kept)
    held = choosing_draw.support_of(support, kept, settings.false_rate)
    if criterion.off_support is not None and held.inside is None:
        raise ValueError("off_support needs a support: give support=(low, high) or data=samples")
    sampler = PairSampler(
        cond, uncond, shape, settings.simulation, held, settings.coarse_steps,
        criterion.returned, odds,
    )  # fmt: skip
    return choose_from(sampler, criterion, settings)


def choose_from(
    sampler: Sampler, criterion: Criterion | str, settings: Settings | None = None
) -> Choice:
    """The same for anything that draws guided samples; see :mod:`choosing_draw`."""
    criterion = criteria.coerced(criterion)
    settings = settings or Settings()
    grid = GRID_SIZE * settings.cap * sampler.nfe(settings.w_max)
    first = settings.first or min(settings.cap, max(128, settings.cap // 16))
    plan = Plan(
        settings.cap, first, settings.w_max, settings.simulation.seed, settings.budget * grid
    )
    search = Search(sampler, criterion, plan)
    accepted, tested = _climb(search, search.locate())
    return _choice(search, accepted, tested, grid)


@dataclass
class _Ladder:
    """Places tested: the highest accepted, the lowest rejected above it, why it ended."""

    accepted: int | None = None
    rejected: int | None = None
    ended: str = ""


def _climb(search: Search, found: Place) -> tuple[int | None, _Ladder]:
    """Test weights around the place that was found, upwards after an acceptance."""
    step = max(1.0, max(found.error, 0.015 * found.at) / GRAIN)
    ladder, place = _Ladder(), search._grain(found.at - step * GRAIN)
    if found.at >= GRAIN * search.top - 1e-9:
        place = search.top
    while True:
        before = search.spent
        accepted, ahead = search.vouch(place, search.level().alpha)
        cost = search.spent - before
        if accepted:
            ladder.accepted = place
        else:
            ladder.rejected = place
            step = 2 * step if ladder.accepted is None else step
        following = _next(search, ladder, ahead / GRAIN, step)
        ladder.ended = _ended(search, ladder, following, cost)
        if ladder.ended:
            return ladder.accepted, ladder
        assert following is not None
        place = following


def _next(search: Search, ladder: _Ladder, ahead: float, step: float) -> int | None:
    """The next place to test, None where nothing is left between; ahead: how far from the place
    just tested the criterion would just be held, by its margins."""
    low, high = ladder.accepted, ladder.rejected
    if low is not None and high is not None:
        if high - low <= max(2, _TOLERANCE * low):
            return None
        return low + max(1, round((high - low) / 2))
    if low is not None:
        up = max(1, round(min(max(step / 2, 0.9 * ahead), 6 * step)))
        return min(low + up, search.top) if low < search.top else None
    assert high is not None
    if high == 0:
        return None
    safe, down = search.safe(high), max(0, high - max(1, round(max(step / 2, -1.2 * ahead))))
    if search.rejections >= len(SPEND) - 1:
        return safe // 2  # the last test of all is spent well below what the looks allow
    return down if search.rejections < 2 else min(down, (safe + high) // 2)


def _ended(search: Search, ladder: _Ladder, following: int | None, cost: int) -> str:
    """Why the search ends here, in words; empty where it goes on."""
    found = ladder.accepted is not None
    if ladder.accepted == search.top:
        return f"the largest weight considered, {search.plan.w_max:g}, keeps the criterion"
    if following is None:
        return "the next weight up was not shown to keep it" if found else "none was accepted"
    if search.rejections >= len(SPEND):
        return f"the confidence is spent after {search.rejections} rejections"
    if found and search.spent + cost > search.plan.budget:
        return "another test would exceed the budget of evaluations"
    return ""


def _choice(search: Search, accepted: int | None, ladder: _Ladder, grid: int) -> Choice:
    criterion, notes = search.criterion, []
    if accepted is None:
        held, _ = search.vouch(0, criterion.alpha * SPEND_ZERO, patient=True)
        accepted = 0 if held else None
    w = 0.0 if accepted is None else search.weight(accepted)
    last = search.rows[-1]
    if accepted is not None:
        verdict = "satisfied"
        reason = f"Stopped because {ladder.ended}." if w else "Only w = 0 was shown to keep it."
    elif last["verdict"] == "violated":
        verdict, reason = "violated", f"Even w = 0 violates the criterion ({last['binding']})."
    else:
        verdict = "undecided"
        reason = (
            f"No weight was shown to keep the criterion with {search.plan.cap} samples, "
            "w = 0 neither; it is not shown to break it."
        )
    notes += _not_monotone(search, accepted)
    return Choice(
        w, verdict, reason, criterion, search.sampler.support.name, tuple(search.rows),
        search.spent, search.spent / grid, search.plan.seed, tuple(notes),
    )  # fmt: skip


def _not_monotone(search: Search, accepted: int | None) -> list[str]:
    """Weights below the choice that were shown to violate what the choice keeps."""
    if not accepted:
        return []
    w = search.weight(accepted)
    below = sorted({r["w"] for r in search.rows if r["verdict"] == "violated" and r["w"] < w})
    if not below:
        return []
    shown = ", ".join(f"{one:.3g}" for one in below)
    return [f"Not monotone in w: the criterion is violated at w = {shown}, below the choice."]
