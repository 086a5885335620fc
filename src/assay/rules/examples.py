"""What the rules look like: the rows behind the page on the rules, a Run of kind "rules.examples".

    part        one row for each
    example     rule shown: a sample as SVG, how each third panel follows from the first two
    broken      way to break a sample, and how the checker marks it
    anatomy     quantity of a row of panels of one sample: does it obey a rule, which thirds would
    fill        panel of that sample: how often each value occurs
    view        change of that sample that leaves every verdict as it is
    verdict     law of the data: C3, C2, AnyValid of fresh samples
    completion  reference line: symbolic, marginal and uniform fill
    overlap     level of memorisation: copies among fresh data, which nobody copied
    mini        rule of genraven-mini: occupancy images (array images.mini)

Everything said of a sample is read from ``check``, never from how the sample was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from assay.rules import bits, checker, completion, draw, genraven, memorisation, mini, shares
from assay.rules.canvas import Box, Canvas, Style

KIND = "rules.examples"
CONFIG: dict[str, Any] = {
    "kind": KIND,
    "seed": 0,
    # one rule for each relation on shape, size or colour; then number and position
    "rules": [0, 11, 22, 13, 4, 25, 16, 7, 28, 9, *range(30, 40)],
    "candidates": 400,
    "anatomy": 8,
    "n_verdict": 100_000,
    "n": 20_000,
    "split": 0,
    "samples_per_rule": 400,
    "mini": 8,
}

# The paper's figures (split 0; overlap in plain form at 400 samples a rule).
PUBLISHED = {
    "uniform": {"all": 0.024},
    "uniform-all": {"any_valid": 0.170},
    "overlap": {"row": 0.0, "panel": 0.124, "attribute_panel": 0.76},
}
SHAPES = ("triangle", "square", "pentagon", "hexagon", "heptagon", "octagon", "circle")
UNITS = genraven.ATTRIBUTES
Rows = list[dict[str, Any]]
_MARGIN, _STEP, _TINT = 8.0, draw.PANEL + draw.GAP, "#c3d5f2"
_RULE_OF_UNIT = {u: [r.id for r in genraven.RULES if r.attribute == u] for u in UNITS}


def fill(run: Any, config: Mapping[str, Any] = CONFIG) -> None:
    """Compute what the Run lacks. config: entries as in CONFIG."""
    run.fill("examples", lambda: (example_rows(config), {}))
    run.fill("broken", lambda: (broken_rows(config), {}))
    run.fill("anatomy", lambda: (anatomy_rows(config), {}))
    run.fill("verdict", lambda: ([verdict_row(config)], {}))
    run.fill("completion", lambda: (completion_rows(config), {}))
    run.fill("overlap", lambda: (overlap_rows(config), {}))
    run.fill("mini", lambda: mini_rows(config))


# ---- words ----------------------------------------------------------------------------------


def values(x: np.ndarray) -> np.ndarray:
    """Sets as masks (..., 5) of panels (..., 9, 3), in the order of UNITS; number is a count."""
    masks = bits.panel_masks(x).astype(np.int64)
    position, attributes = masks[..., :1], masks[..., 1:]
    return np.concatenate([attributes, np.bitwise_count(position), position], axis=-1)


def said(unit: str, value: int, code: bool = False) -> str:
    """A set, a single value or a count in words; code: with the number that a shape stands for."""
    if unit == "number":
        return str(value)
    members = bits.values_of(value)
    if unit == "position":
        members = tuple(cell + 1 for cell in members)
    names = [SHAPES[v] if unit == "shape" else str(v) for v in members]
    if len(names) != 1 or unit == "position":
        return "{" + ", ".join(names) + "}"
    return f"{names[0]} ({members[0]})" if unit == "shape" and code else names[0]


def explain(rule: int, x: np.ndarray) -> tuple[str, list[str]]:
    """How the third panel follows, in general and for each row of the sample x (3, 3, 9, 3)."""
    _, _, unit, relation = genraven.RULES[rule]
    things = {"position": "occupied cells", "number": "numbers of objects"}.get(unit, f"{unit}s")
    thing = {"number": "number of objects"}.get(unit, unit)
    general = {
        "constant": f"All three panels have the same {thing}.",
        "arithmetic +": f"The third panel's {thing} is the sum of the first two.",
        "arithmetic -": f"The third panel's {thing} is the first less the second.",
        "XOR": f"The third panel has the {things} of exactly one of the first two.",
        "OR": f"The third panel has the {things} of the first two together.",
        "AND": f"The third panel has the {things} that the first two share.",
    }.get(relation, f"From panel to panel the {thing} {_steps(relation)}.")
    sign = {"constant": ", ", "arithmetic +": " + ", "arithmetic -": " \u2212 "}
    between = sign.get(relation, f" {relation} " if len(relation) < 4 else ", ")
    equals = " \u2192 " if between == ", " else " = "
    code = relation.startswith(("arithmetic", "progression"))
    rows = [
        f"{said(unit, a, code)}{between}{said(unit, b, code)}{equals}{said(unit, c, code)}"
        for a, b, c in values(x)[..., UNITS.index(unit)].tolist()
    ]
    return general, rows


def _steps(relation: str) -> str:
    return ("grows by " if relation[-2] == "+" else "falls by ") + relation[-1]


def checked(x: np.ndarray) -> dict[str, Any]:
    """What the checker says of a sample (3, 3, 9, 3): verdict, rows at fault, rules by row."""
    ok = genraven.check(x[None])[0]
    words = draw.verdict(ok)
    return {
        "verdict": words.title,
        "verdict_note": words.note,
        "offending": [row + 1 for row in words.offending],
        "found": [[genraven.RULES[r].name for r in np.flatnonzero(row)] for row in ok],
    }


# ---- pictures -------------------------------------------------------------------------------


def matrix(x: np.ndarray, title: str) -> str:
    """A sample (3, 3, 9, 3) as SVG without words; the third panels stand on a tint."""
    side = 3 * draw.PANEL + 2 * draw.GAP + 2 * _MARGIN
    canvas = Canvas(side, side, title=title)
    pad = 0.7 * draw.GAP
    left, width = _MARGIN + 2 * _STEP - pad, draw.PANEL + 2 * pad
    height = side - 2 * _MARGIN + 2 * pad
    canvas.items.append(Box(left, _MARGIN - pad, width, height, 6, Style(_TINT)))
    for row in range(3):
        for q in range(3):
            canvas.items += draw.panel(x[row, q], _MARGIN + q * _STEP, _MARGIN + row * _STEP)
    return canvas.svg()


def legible(rule: int, seed: int, candidates: int) -> np.ndarray:
    """Of so many samples of a rule, one that shows it well.

    In what the rule governs, its third panels differ from each other and from the other two (as
    far as the rule lets them); and it has few objects and small sets.
    """
    x, _ = genraven.generate(candidates, (rule,), seed + rule)
    shown = values(x)[..., UNITS.index(genraven.RULES[rule].attribute)]
    alike = np.array([3 - len(set(thirds)) for thirds in shown[..., 2].tolist()])
    repeated = (shown[..., 2:] == shown[..., :2]).any(axis=2).sum(axis=1)
    objects = (x[..., 0] >= 0).sum(axis=(1, 2, 3)) + np.bitwise_count(shown).sum(axis=(1, 2))
    return x[np.lexsort((objects, alike + repeated))[0]]


# ---- parts ----------------------------------------------------------------------------------


def example_rows(config: Mapping[str, Any]) -> Rows:
    """One sample of each rule in config["rules"]."""
    found = []
    for rule in config["rules"]:
        about = genraven.RULES[rule]
        x = legible(rule, config["seed"], config["candidates"])
        general, rows = explain(rule, x)
        found.append({
            "key": f"example-{rule}", "part": "example", "rule": rule, "name": about.name,
            "attribute": about.attribute, "relation": about.relation, "explanation": general,
            "rows": rows, "candidates": config["candidates"], **checked(x),
            "svg": matrix(x, f"rule {rule}, {about.name}: three rows of three panels"),
        })  # fmt: skip
    return found


def broken_rows(config: Mapping[str, Any]) -> Rows:
    """Samples as drawn and spoilt in several ways, each as the checker marks it."""
    found = []
    for name, (title, note, x) in _spoilt(config["seed"], config["candidates"]).items():
        row = {"key": f"broken-{name}", "part": "broken", "title": title, "note": note}
        found.append({**row, **checked(x), "svg": draw.svg(x[None])})
    return found


def _spoilt(seed: int, candidates: int) -> dict[str, tuple[str, str, np.ndarray]]:
    whole, number, colour = (legible(rule, seed, candidates) for rule in (3, 33, 25))
    stranger = whole.copy()
    stranger[2] = legible(17, seed, candidates)[2]
    mixed = np.stack([legible(rule, seed, candidates)[0] for rule in (7, 24, 36)])
    return {
        "intact": ("Intact", "As generated.", whole),
        "object": ("One object changed", "The same, but one object has another shape.",
                   spoil(whole, 0, lambda shape: (shape + 1) % 7)),
        "row": ("A row of another rule", "The same, but row 3 comes from another sample.",
                stranger),
        "mixed": ("Three rules", "Three rows, each of a rule of its own.", mixed),
        "half-empty": ("A half-empty cell", "One object has lost its shape but kept size and "
                       "colour: its cell counts as empty.", spoil(number, 0, lambda _: -1)),
        "out-of-range": ("A value out of range", "One object has colour 11, beyond 0 to 9: its "
                         "panel obeys no colour rule.", spoil(colour, 2, lambda _: 11)),
    }  # fmt: skip


def spoil(x: np.ndarray, attribute: int, change: Callable[[int], int]) -> np.ndarray:
    """A copy of a sample with one object's attribute changed so that its row obeys nothing.

    The last such object is taken; ValueError where there is none.
    """
    for row, q, cell in np.argwhere(x[..., 0] >= 0)[::-1].tolist():
        spoilt = x.copy()
        spoilt[row, q, cell, attribute] = change(int(x[row, q, cell, attribute]))
        if not genraven.check(spoilt[None])[0, row].any():
            return spoilt
    raise ValueError(
        f"attribute {attribute}: no object's change breaks its row; change it otherwise"
    )


def anatomy_rows(config: Mapping[str, Any]) -> Rows:
    """One sample taken apart: quantities, fills, and changes that no verdict notices."""
    rule = config["anatomy"]
    x = legible(rule, config["seed"] + 1, config["candidates"])
    name = genraven.RULES[rule].name
    whole = {"key": "anatomy", "part": "sample", "rule": rule, "name": name, **checked(x)}
    found = [{**whole, "svg": matrix(x, f"a sample of rule {rule}, {name}")}]
    found += _quantities(x)
    found += [_fill_row(x[row, q], row, q) for row in range(3) for q in range(3)]
    for key, (title, note, y) in _views(x, config["seed"]).items():
        view = {"key": f"view-{key}", "part": "view", "title": title, "note": note, **checked(y)}
        found.append({**view, "svg": matrix(y, title)})
    return found


def _quantities(x: np.ndarray) -> Iterator[dict[str, Any]]:
    ok = genraven.check(x[None])[0]
    masks, shown = bits.panel_masks(x).astype(np.int64), values(x)
    for row in range(3):
        for u, unit in enumerate(UNITS):
            obeyed = [r for r in _RULE_OF_UNIT[unit] if ok[row, r]]
            yield {
                "key": f"anatomy-row{row + 1}-{unit}", "part": "anatomy", "row": row + 1,
                "quantity": unit, "panels": [said(unit, v) for v in shown[row, :, u].tolist()],
                "obeys": genraven.RULES[obeyed[0]].name if obeyed else None,
                "thirds": [
                    f"{said(unit, third)} ({genraven.RULES[rule].relation})"
                    for rule, third in thirds(masks[row], unit)
                ],
            }  # fmt: skip


def thirds(masks: np.ndarray, unit: str) -> list[tuple[int, int]]:
    """(rule, third value) for every third that obeys a rule of the unit after two panels.

    masks (3 panels, 4) of ``bits.panel_masks``: a row, of whose third panel only this unit is
    replaced; all values it could have are tried on the checker. Numbers are counts.
    """
    number = unit == "number"
    column = bits.MASKS.index("position" if number else unit)
    tried = np.arange(1, 10 if number else 1 << bits.WIDTHS[column])
    rows = np.repeat(masks[None], len(tried), axis=0)
    rows[:, 2, column] = (1 << tried) - 1 if number else tried
    ok = checker.check_masks(rows)[:, _RULE_OF_UNIT[unit]]
    return [(_RULE_OF_UNIT[unit][k], int(tried[i])) for k, i in np.argwhere(ok.T).tolist()]


def _fill_row(panel: np.ndarray, row: int, q: int) -> dict[str, Any]:
    occupied = panel[panel[:, 0] >= 0]
    counts = [np.unique(column, return_counts=True) for column in occupied.T]
    shape, size, colour = (
        ", ".join(
            f"{SHAPES[v] if u == 0 else v} \u00d7 {k}"
            for v, k in zip(*(c.tolist() for c in count), strict=True)
        )
        for u, count in enumerate(counts)
    )
    return {
        "key": f"fill-row{row + 1}-panel{q + 1}", "part": "fill", "row": row + 1, "panel": q + 1,
        "objects": len(occupied), "cells": said("position", int(bits.panel_masks(panel)[0])),
        "shape": shape, "size": size, "colour": colour,
    }  # fmt: skip


def _views(x: np.ndarray, seed: int) -> dict[str, tuple[str, str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    moved = np.stack([row[:, rng.permutation(9)] for row in x])
    return {
        "fill": ("Filled anew", "The same sets in the same cells, objects drawn afresh.",
                 bits.fill_panels(bits.panel_masks(x), seed)),
        "cells": ("Cells permuted", "One permutation of the nine cells for each row.", moved),
        "swap": ("Size and colour swapped", "Size rules become colour rules and the reverse.",
                 x[..., [0, 2, 1]]),
    }  # fmt: skip


# ---- measures -------------------------------------------------------------------------------


def verdict_row(config: Mapping[str, Any]) -> dict[str, Any]:
    """C3, C2, AnyValid and the share of rows that obey exactly one rule, with intervals."""
    n = config["n_verdict"]
    x, y = genraven.generate(n, seed=config["seed"])
    ok = genraven.check(x)
    found = genraven.summary(ok, seed=config["seed"])
    measures = {name: found[name] for name in ("c3", "c2", "any_valid")}
    measures["one_rule"] = shares.share(ok.sum(axis=2) == 1)
    measures["own_rule"] = shares.share(ok[np.arange(n), :, y])
    per_rule = np.bincount(y, minlength=40) / n
    row = {"key": "verdict", "part": "verdict", "n": n, "n_rules": len(genraven.RULES)}
    row |= {"least_share": per_rule.min(), "largest_share": per_rule.max()}
    for name, share in measures.items():
        row |= _columns(name, share)
    return row


def _columns(name: str, share: Mapping[str, Any] | None) -> dict[str, Any]:
    """A share as columns name, name_low, name_high, and name_n where it has its own n."""
    if share is None:
        return {name: None}
    row = {name: share["estimate"], f"{name}_low": share["low"], f"{name}_high": share["high"]}
    return row | ({f"{name}_n": share["n"]} if "n" in share else {})


def completion_rows(config: Mapping[str, Any]) -> Rows:
    """The reference lines for the third panel of row 3, and the uniform fill of all panels."""
    held_out = genraven.SPLITS[config["split"]]
    x, y = genraven.generate(config["n"], seed=config["seed"] + 2)
    trained = genraven.trained(config["split"])
    fills: dict[str, tuple[completion.Fill, np.ndarray]] = {
        "symbolic": (completion.symbolic, completion.THIRD_PANEL),
        "marginal": (completion.marginal(trained), completion.THIRD_PANEL),
        "uniform": (completion.uniform, completion.THIRD_PANEL),
        "uniform-all": (completion.uniform, np.ones((3, 3), np.bool_)),
    }
    found = []
    for name, (law, mask) in fills.items():
        answer = completion.evaluate_completion(law, x, y, mask, held_out, config["seed"])
        row = {"key": f"completion-{name}", "part": "completion", "fill": name.split("-")[0]}
        row |= {"unknown": int(mask.sum()), "n": len(x), "held_out_rules": list(held_out)}
        row |= {f"{column}_published": share for column, share in PUBLISHED.get(name, {}).items()}
        for column in ("all", "trained", "held_out", "any_valid"):
            row |= _columns(column, answer[column])
        found.append(row)
    return found


def overlap_rows(config: Mapping[str, Any]) -> Rows:
    """Copies of training samples among fresh ones of all rules, by level and form of equality."""
    per_rule, seed = config["samples_per_rule"], config["seed"]
    trained = genraven.trained(config["split"])
    fresh, _ = genraven.generate(config["n"], seed=seed + 4)
    found = []
    for form in memorisation.FORMS:
        levels = [v for v in memorisation.LEVELS if form == "canonical" or v != "set_row"]
        size = per_rule * len(trained)
        index = memorisation.Index.stream(size, trained, seed + 3, levels, form=form)
        for level, share in index.overlap(fresh).items():
            row = {"key": f"overlap-{level}-{form}", "part": "overlap", "level": level}
            row |= {"form": form, "n_train": size, "samples_per_rule": per_rule, "n": len(fresh)}
            row |= {"published": PUBLISHED["overlap"].get(level) if form == "plain" else None}
            found.append({**row, **_columns("overlap", share)})
    return found


def mini_rows(config: Mapping[str, Any]) -> tuple[Rows, dict[str, np.ndarray]]:
    """Occupancy images of the rules of genraven-mini: uint8 (rules, images, 9, 9)."""
    found, drawn = [], []
    for i, rule in enumerate(mini.RULES):
        drawn.append(mini.generate(config["mini"], (rule,), config["seed"])[0])
        held_out = rule in mini.HELD_OUT
        row = {"key": f"mini-{rule}", "part": "mini", "rule": rule, "index": i}
        found.append({**row, "name": genraven.RULES[rule].name, "held_out": held_out})
    return found, {"images": np.stack(drawn)}
