"""The change that a rollout's rows call for, as an entry of its log, and the reason in words."""

from __future__ import annotations

from typing import Any

from assay import runs
from assay.guidance.rollouts import rule as rollout_rule
from assay.guidance.rollouts import state as rollout_state
from assay.guidance.rollouts.state import Standing


def change(now: Standing) -> list[tuple[str, dict[str, Any]]]:
    """The entry of the decision that is due, if any."""
    kind = now.due()
    if kind is None:
        return []
    readings = now.readings()
    after = Standing(now.plan, now.phase, now.stage)
    after.apply(kind, {"reason": ""})
    data = {
        "stage": now.stage, "from": weights(now.w), "to": weights(after.w), "state": after.phase,
        "rows": now.rows, "reason": _reason(kind, now, after),
        "guards": [r.data() for r in readings],
    }  # fmt: skip
    return [(kind, runs.plain(data))]


def _reason(kind: str, now: Standing, after: Standing) -> str:
    readings = now.readings()
    if kind == "promoted":
        said = "; ".join(r.words for r in readings)
        then = "production" if after.phase == rollout_state.PRODUCTION else "next"
        return f"w = {now.w:g} is good: {said}; {then}: w = {after.w:g}"
    back = f"back to w = {after.w:g}"
    if after.stage == 0:
        back += ", the fallback: no stage has been found good"
    if kind == "held":
        left = "; ".join(r.words for r in readings if r.verdict != rollout_rule.INSIDE)
        return f"w = {now.w:g} holds for good after {now.rows:,} rows: {left}; {back}"
    bad = "; ".join(r.words for r in readings if r.verdict == rollout_rule.OUTSIDE)
    verb = "has drifted" if kind == "drift" else "is bad"
    return f"w = {now.w:g} {verb}: {bad}; {back}"


def why(now: Standing) -> str:
    """The standing in words."""
    if now.over:
        return f"over: {now.reason}"
    if now.phase == rollout_state.PRODUCTION:
        return f"in production at w = {now.w:g}, {now.rows:,} rows watched, no alarm"
    open_ = [r.words for r in now.readings() if r.verdict != rollout_rule.INSIDE]
    return f"w = {now.w:g} holds after {now.rows:,} rows: {'; '.join(open_)}"


def weights(w: float | None) -> dict[str, Any]:
    """w and guidance_scale, side by side."""
    assert w is not None
    return {"w": w, "guidance_scale": 1 + w}
