"""The search for the largest weight: look for it cheaply, then vouch for it on fresh noise.

**Looking.** Weights double on the scale L = log(1 + w) until a constraint fails; the bracket is
narrowed with growing samples, by the coarse solver where there is one, and a straight line
through each constraint's margins near the end of the bracket says where it would just be held.
The coarse solver is compared with the full one on the same noise there, and the place is moved by
what they differ. Nothing found here is claimed.

**Vouching.** Weights are tested one after another, each by the full solver on noise of its own,
with as many samples as it takes. What may go wrong is that a weight that violates a constraint is
accepted. Let alpha_r be the level of every test made after r rejections. Between two rejections
the first violating weight is either accepted, with probability at most alpha_r given the past
(its noise is fresh, and each of its constraints must be held at that level), or it is a
rejection; so

    P(a violating weight is ever accepted) <= sum_r alpha_r = 1 - confidence,

whatever the order of the weights, and whether or not the constraints are monotone in w:
acceptances are free, rejections spend. (With no rejection allowed but the last this is
fixed-sequence testing: Maurer, Hothorn and Lehmacher 1995; Angelopoulos et al., "Learn then
Test", arXiv 2110.01052.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from assay.guidance.choosing import judge as judging
from assay.guidance.choosing.criterion import Criterion
from assay.guidance.choosing.draw import Drawn, Sampler
from assay.guidance.choosing.judge import Level, Measured

GRAIN = 0.005  # weights are multiples of this in log(1 + w)
SPEND = (0.7, 0.15, 0.06, 0.04)  # of 1 - confidence, after 0, 1, 2, 3 rejections
SPEND_ZERO = 0.05  # for w = 0, where nothing else is left
_LOOK, _VOUCH, _CHECK = 1, 2, 3  # what a noise is for
_DOUBLING = math.log(2)
_SLOPE = -0.3  # margins fall at least so fast in L where a line is fitted


@dataclass(frozen=True)
class Plan:
    """cap: most samples of one weight; first: the first look; w_max; seed; budget: network
    evaluations after which no further weight is tried."""

    cap: int
    first: int
    w_max: float
    seed: int
    budget: float


class Place(NamedTuple):
    """Where a constraint would just be held, in L, its standard error, the margin's slope."""

    at: float
    error: float
    slope: float = _SLOPE


@dataclass(eq=False)
class Search:
    """Tests made so far: evidence rows, network evaluations spent, rejections."""

    sampler: Sampler
    criterion: Criterion
    plan: Plan
    rows: list[dict[str, Any]] = field(default_factory=list)
    spent: int = 0
    rejections: int = 0
    looked: dict[int, list[Measured]] = field(default_factory=dict)
    slopes: list[float] = field(default_factory=list)

    @property
    def top(self) -> int:
        """w_max in grains."""
        return round(math.log1p(self.plan.w_max) / GRAIN)

    def weight(self, place: int) -> float:
        """The weight of a place in grains."""
        return self.plan.w_max if place == self.top else math.expm1(GRAIN * place)

    def level(self) -> Level:
        """Of the tests after so many rejections."""
        share = SPEND[min(self.rejections, len(SPEND) - 1)]
        return Level(self.criterion.alpha * share, self.plan.cap)

    # ---- looking -------------------------------------------------------------------------------

    def look(self, place: int, n: int) -> list[Measured]:
        """The constraints at one weight from n samples of the coarse solver."""
        drawn, plain = self._pair(place, n, (self.plan.seed, _LOOK, place, n), True)
        found = judging.judge(self.criterion, drawn, plain, self.level())
        self._row("look", place, found, drawn, None)
        self.looked[place] = found
        return found

    def scan(self) -> tuple[int, int | None]:
        """Doubling 1 + w: the last place that looks held, and the next one that does not."""
        held, step = -1, round(_DOUBLING / GRAIN)
        for place in [*range(0, self.top, step), self.top]:
            found = self.look(place, self.plan.first)
            if all(m.margin > -m.margin_se for m in found):
                held = place
            elif held >= 0 and any(m.margin < -2 * m.margin_se for m in found):
                break
        else:  # no clear failure: what the estimates say, if they say so at all
            good = [p for p in self.looked if _least(self.looked[p]) >= 0]
            held = max(good) if good and held >= 0 else held
        below = [p for p in self.looked if p > held]
        return held, min(below) if below and held >= 0 else None

    def safe(self, place: int) -> int:
        """The highest place below this one whose looks were held with room to spare, or 0."""
        clear = [p for p, f in self.looked.items() if all(m.margin > 2 * m.margin_se for m in f)]
        return max((p for p in clear if p < place), default=0)

    def locate(self) -> Place:
        """Where the criterion would just be held, from ever more samples near the end."""
        held, failed = self.scan()
        if held < 0:  # nothing looks held: the least bad place
            best = max(self.looked, key=lambda place: _least(self.looked[place]))
            return Place(best * GRAIN, 0.3)
        if failed is None:
            return Place(self.top * GRAIN, 0.05)
        for growth in (2, 4, 4):
            if failed - held <= 2:
                break
            near = self._fit(held, failed).at / GRAIN
            inside = max(1.0, 0.12 * (failed - held))
            place = round(min(max(near, held + inside), failed - inside))
            n = min(growth * self.plan.first, self.plan.cap)
            if _least(self.look(place, n)) >= 0:
                held = place
            else:
                failed = place
        return self._checked(held, failed)

    def _fit(self, held: int, failed: int, apart: list[float] | None = None) -> Place:
        """The first root of a constraint's line through the margins near the bracket.

        apart: what the full solver adds to each constraint's margin.
        """
        middle, width = GRAIN * (held + failed) / 2, max(0.25, GRAIN * (failed - held))
        places = np.array(sorted(self.looked))
        at = GRAIN * places - middle
        near = np.exp(-((at / width) ** 2) / 2)
        roots = []
        for j in range(len(self.criterion.names)):
            margins = np.array([self.looked[p][j].margin for p in places])
            errors = np.array([self.looked[p][j].margin_se for p in places])
            more = 0.0 if apart is None else apart[j]
            roots.append(_root(at, margins + more, near / (errors**2 + 0.02**2)))
        self.slopes = [root.slope for root in roots]
        found = min(roots)
        low, high = GRAIN * held - 2 * width, GRAIN * failed + 2 * width
        return found._replace(at=float(np.clip(middle + found.at, max(low, 0.0), high)))

    def _checked(self, held: int, failed: int) -> Place:
        """The place found, moved by what the two solvers differ in on the same noise."""
        found = self._fit(held, failed)
        if not self.sampler.has_coarse:
            return found
        place, n = self._grain(found.at), 2 * self.plan.first
        judged = []
        for coarse in (True, False):
            drawn, plain = self._pair(place, n, (self.plan.seed, _CHECK, 0, 0), coarse)
            judged.append(judging.judge(self.criterion, drawn, plain, self.level()))
            self._row("check, coarse" if coarse else "check", place, judged[-1], drawn, None)
        return self._fit(held, failed, [b.margin - a.margin for a, b in zip(*judged, strict=True)])

    # ---- vouching ------------------------------------------------------------------------------

    def vouch(self, place: int, alpha: float, patient: bool = False) -> tuple[bool, float]:
        """(accepted, how much further in L it would just be held): one weight on its own noise.

        patient: go on where there is no hope, until it is shown to be broken.
        """
        n, drawn, plain, block = 0, None, None, 0
        level, found = Level(alpha, self.plan.cap), []
        while True:
            more = self.plan.first if n == 0 else min(n, self.plan.cap - n)
            key = (self.plan.seed, _VOUCH, place, block)
            new, new_plain = self._pair(place, more, key, False)
            drawn = new if drawn is None else drawn + new
            plain = new_plain if plain is None else plain + new_plain
            n, block = n + more, block + 1
            found = judging.judge(self.criterion, drawn, plain, level)
            accepted = all(m.held for m in found)
            lost = any(m.broken or (m.hopeless and not m.held and not patient) for m in found)
            if accepted or lost or n >= self.plan.cap:
                break
        self._row("test", place, found, drawn, alpha)
        self.rejections += not accepted
        slopes = self.slopes or [_SLOPE] * len(found)
        sure = [m.margin - m.margin_se for m in found]  # few events promise much by luck
        return accepted, min(-m / s for m, s in zip(sure, slopes, strict=True))

    def _pair(self, place: int, n: int, key: tuple[int, ...], coarse: bool) -> tuple[Drawn, Drawn]:
        """Samples of one weight and of w = 0 from the same noise, counted."""
        w = self.weight(place)
        drawn = self.sampler.draw(w, n, key, coarse)
        self.spent += n * self.sampler.nfe(w, coarse)
        if place == 0 or not judging.needs_plain(self.criterion):
            return drawn, drawn
        self.spent += n * self.sampler.nfe(0.0, coarse)
        return drawn, self.sampler.draw(0.0, n, key, coarse)

    def _grain(self, at: float) -> int:
        return int(np.clip(math.floor(at / GRAIN), 0, self.top))

    def _row(
        self, phase: str, place: int, found: list[Measured], drawn: Drawn, alpha: float | None
    ) -> None:
        w = self.weight(place)
        self.rows.append(
            {
                "phase": phase,
                "w": w,
                "guidance_scale": 1 + w,
                "n": len(drawn.x),
                "seed": self.plan.seed,
                "nfe_sample": self.sampler.nfe(w, phase in ("look", "check, coarse")),
                "nfe": self.spent,
                "alpha": alpha,
                "verdict": verdict(found),
                "binding": min(found, key=lambda m: m.margin).name,
            }
            | judging.columns(found, drawn)
        )


def verdict(found: list[Measured]) -> str:
    """ "held", "violated" (a constraint is shown to be broken) or "not shown"."""
    if all(m.held for m in found):
        return "held"
    return "violated" if any(m.broken for m in found) else "not shown"


def _least(found: list[Measured]) -> float:
    return min(m.margin for m in found)


def _root(at: np.ndarray, margins: np.ndarray, weights: np.ndarray) -> Place:
    """Where a weighted line through the margins falls to 0, and its standard error."""
    total = weights.sum()
    centre, mean = weights @ at / total, weights @ margins / total
    spread = weights @ (at - centre) ** 2
    slope = weights @ ((at - centre) * (margins - mean)) / max(spread, 1e-12)
    slope = min(slope, _SLOPE)
    root = centre - mean / slope
    error = math.sqrt(1 / total + (root - centre) ** 2 / max(spread, 1e-12)) / -slope
    return Place(float(root), float(np.clip(error, 0.01, 0.3)), float(slope))
