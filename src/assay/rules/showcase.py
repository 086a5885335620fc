"""What the shipped models do, measured on the spot: a Run of kind "rules.models".

    part                one row for each, beside the parts of an evaluation (`evaluate`)
    model               model: what it is, what it learned from
    any_mask            mask of several panels: completions, as for a single panel
    sample_picture      one of the first samples drawn, as SVG, with what the checker says
    completion_picture  question: unknown panels marked, the model's answer beside it

Every row names its model. "source" is "here" for what was measured now, from seeds of its own, and
"file" for the rows that lie beside the shipped weights, measured earlier with more samples. What
is right is read from ``check``, and pictures are not chosen by it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from assay.rules import completion, draw, genraven, modelfile, shipping
from assay.rules.canvas import Box, Canvas, Item, Polygon, Style, Text
from assay.rules.evaluate import EvaluateConfig, Evaluation, flat, prepare

KIND = "rules.models"
CONFIG: dict[str, Any] = {
    "kind": KIND,
    "seed": 1,  # the shipped rows have seed 0: no sample is counted twice
    "n": 768,
    "n_any_panel": 128,
    "levels": ["sample", "row", "set_row", "panel"],
    "most_trained": 4_000_000,  # beyond it making the training samples again takes too long
    "samples": 8,
    "questions": {"trained": 4, "held_out": 2},
    "masks": [[1, 8], [3, 4, 5], [0, 4, 8]],  # panels by 3 * row + column
}
Rows = list[dict[str, Any]]
_LAST = "pictures"  # the group made last
_STEP, _BAR, _EDGE = draw.PANEL + draw.GAP, 4.0, 10.0
_UNKNOWN = "#dfe8f6"
_OCCUPIED = np.array([6, 6, 9], np.int8)  # how an object is drawn of which nothing else is known


def config() -> dict[str, Any]:
    """CONFIG with the shipped models, each with the hash of its weights."""
    models = {name: _about(name)["sha256"] for name in shipping.names()}
    return {**CONFIG, "models": models}


def fill(run: Any, config: Mapping[str, Any]) -> None:
    """Compute what the Run lacks. config: entries as `config` gives them."""
    for name in config["models"]:
        there = {row["group"] for row in run.rows if row.get("last")}
        if f"{name}/{_LAST}" in there:
            continue  # all of it: groups are made in order
        shown = Shown(name, config)
        for group, make in shown.groups():
            run.fill(f"{name}/{group}", functools.partial(shown.named, make))


def _about(name: str) -> dict[str, Any]:
    return modelfile.about(shipping.FOLDER / f"{name}.json")


class Shown:
    """A shipped model under evaluation."""

    def __init__(self, name: str, config: Mapping[str, Any]):
        self.name, self.config = name, config
        # on the processor: n is made for it, and every machine's page then says the same
        self.model = shipping.load(name, device="cpu")
        self.evaluation = _prepared(self.model, config)
        self.binding = self.evaluation.binding

    def groups(self) -> Iterator[tuple[str, Callable[[], Rows]]]:
        """(name, what makes its rows), the costly ones first where they cost least to lose."""
        yield "model", self.about
        yield "file", self.shipped
        yield from self.evaluation.groups()
        for places in self.config["masks"]:
            mask = np.isin(np.arange(9), places).reshape(3, 3)
            yield f"any_mask/{where(mask)}", functools.partial(self.any_mask, mask)
        yield _LAST, self.pictures

    def named(self, make: Callable[[], Rows]) -> tuple[Rows, dict[str, Any]]:
        """A group's rows with the model's name, also in their keys."""
        rows = [
            {"source": "here", **row, "key": f"{self.name}/{row['key']}", "model": self.name}
            for row in make()
        ]
        return rows, {}

    # ---- rows --------------------------------------------------------------------------------

    def about(self) -> Rows:
        """What the model is."""
        said, data = self.model.about, self.evaluation.data
        row = {"key": "model", "part": "model", **self.evaluation.facts}
        row |= {name: said[name] for name in ("family", "preset", "binding", "averaged")}
        row |= {"trained_rules": list(data.rules), "held_out_rules": list(data.held_out)}
        row |= {"per_rule": data.per_rule, "n": self.config["n"], "seed": self.config["seed"]}
        return [{**row, "occupancy_only": self.binding.occupancy_only}]

    def shipped(self) -> Rows:
        """The rows beside the weights."""
        rows = _about(self.name)["rows"]
        return [{**row, "key": f"file/{row['key']}", "source": "file"} for row in rows]

    def any_mask(self, mask: np.ndarray) -> Rows:
        """Completions of several panels, one of them as a picture; or why there are none."""
        name, n = where(mask), self.config["n_any_panel"]
        row: dict[str, Any] = {"key": f"any_mask/{name}", "part": "any_mask", "mask": name, "n": n}
        x, y = self.evaluation.fresh(n)
        try:
            answer = self._answer(x, mask)
        except ValueError as error:
            return [{**row, "refused": str(error)}]
        data, seed = self.evaluation.data, self.config["seed"]
        marginal = completion.marginal(data.rules)
        made = lambda *_: answer  # noqa: E731
        for prefix, law in (("", made), ("marginal_", marginal)):
            found = completion.evaluate_completion(law, x, y, mask, data.held_out, seed)
            for group in ("all", "trained", "held_out"):
                if found[group] is not None:
                    row |= flat(f"{prefix}{group}", found[group])
        asked = [i for i in range(n) if y[i] in data.rules]
        i = asked[self.config["masks"].index(np.flatnonzero(mask).tolist()) % len(asked)]
        return [
            row,
            self._completion(f"any_mask/{name}/picture", x[i], answer[i], mask, int(y[i])),
        ]

    def pictures(self) -> Rows:
        """The first samples drawn; the first questions of the task."""
        x = self.evaluation.drawn(1.0)[0][: self.config["samples"]]
        rows = [self._sample(i, x[i]) for i in range(len(x))]
        x, y = self.evaluation.fresh(self.config["n_any_panel"])
        chosen = self._questions(y)
        mask = completion.THIRD_PANEL
        answer = self._answer(x[chosen], mask)
        for k, i in enumerate(chosen):
            key = f"completion_picture/{k}"
            rows.append(self._completion(key, x[i], answer[k], mask, int(y[i])))
        return rows

    def _answer(self, x: np.ndarray, mask: np.ndarray) -> np.ndarray:
        hidden = np.where(mask[..., None, None], -1, x).astype(np.int8)
        return self.model.complete(hidden, mask, self.config["seed"], 0.0)

    def _questions(self, y: np.ndarray) -> list[int]:
        """The first questions of trained and of held-out rules, the quantities in turn."""
        found: list[int] = []
        data, wanted = self.evaluation.data, self.config["questions"]
        for rules, n in ((data.rules, wanted["trained"]), (data.held_out, wanted["held_out"])):
            asked = np.flatnonzero(np.isin(y, rules))
            kinds = [genraven.RULES[rule].attribute for rule in y[asked]]
            turns = [kinds[:k].count(kind) for k, kind in enumerate(kinds)]
            found += asked[np.argsort(turns, kind="stable")[:n]].tolist()
        return found

    # ---- pictures ----------------------------------------------------------------------------

    def _checked(self, x: np.ndarray) -> tuple[np.ndarray, draw.Verdict]:
        """What of a sample the model draws, as it is drawn, and what the checker says of it."""
        x = self.binding.project(x)
        words = draw.verdict(genraven.check(x[None])[0])
        return (np.where(x < 0, x, _OCCUPIED) if self.binding.occupancy_only else x), words

    def _sample(self, i: int, x: np.ndarray) -> dict[str, Any]:
        look, words = self._checked(x)
        row = {"key": f"sample_picture/{i}", "part": "sample_picture", "index": i}
        row |= {"right": not words.offending, "verdict": words.title, "verdict_note": words.note}
        return {**row, "svg": sample_svg(look, words.offending)}

    def _completion(
        self, key: str, x: np.ndarray, answer: np.ndarray, mask: np.ndarray, rule: int
    ) -> dict[str, Any]:
        about = genraven.RULES[rule]
        question = self._checked(x)[0]
        look, words = self._checked(answer)
        row = {"key": key, "part": "completion_picture", "mask": where(mask), "rule": about.id}
        row |= {"name": about.name, "held_out": about.id in self.evaluation.data.held_out}
        row |= {"right": not words.offending, "verdict": words.title, "verdict_note": words.note}
        return {**row, "svg": completion_svg(question, look, mask, not words.offending)}


def _prepared(model: Any, config: Mapping[str, Any]) -> Evaluation:
    """The evaluation; without memorisation where the training samples are too many."""
    made = prepare(
        model,
        EvaluateConfig(
            n=config["n"],
            n_any_panel=config["n_any_panel"],
            seed=config["seed"],
            levels=tuple(config["levels"]),
        ),
    )
    if made.n_trained > config["most_trained"]:
        left = tuple(name for name in made.config.protocols if name != "copies")
        made.config, made.levels = made.config.model_copy(update={"protocols": left}), ()
    return made


def where(mask: np.ndarray) -> str:
    """A mask (3, 3) in words: "r1c2,r3c3"."""
    return ",".join(f"r{row + 1}c{column + 1}" for row, column in np.argwhere(mask).tolist())


def sample_svg(x: np.ndarray, offending: Sequence[int]) -> str:
    """A sample (3, 3, 9, 3); a stroke beside each row, green, or red on a tint where at fault."""
    side = 3 * _STEP - draw.GAP
    canvas = Canvas(side + 2 * _EDGE + _BAR, side + 2 * _EDGE, title="a sample of the model")
    left, pad = _EDGE + _BAR, draw.GAP / 2
    for row in range(3):
        top, bad = _EDGE + row * _STEP - pad, row in offending
        if bad:
            tint = Box(0, top, side + left + pad, _STEP, 3, Style(draw.TINT))
            canvas.items.append(tint)
        style = Style(draw.BAD if bad else draw.GOOD)
        canvas.items.append(Box(0, top, _BAR, _STEP, 2, style))
    canvas.items += _panels(x, left, ~np.ones((3, 3), np.bool_))
    return canvas.svg()


def completion_svg(question: np.ndarray, answer: np.ndarray, mask: np.ndarray, right: bool) -> str:
    """Two matrices (3, 3, 9, 3): the unknown panels as "?", and framed as they were filled in."""
    side, arrow = 3 * _STEP - draw.GAP, 46.0
    width = 2 * side + arrow + 2 * _EDGE
    canvas = Canvas(width, side + 2 * _EDGE, title="a question and the model's answer")
    second, pad = _EDGE + side + arrow, draw.GAP / 2
    for row, column in np.argwhere(mask).tolist():
        x, y = second + column * _STEP - pad, _EDGE + row * _STEP - pad
        colour = draw.GOOD if right else draw.BAD
        canvas.items.append(Box(x - 1, y - 1, _STEP + 2, _STEP + 2, 6, Style(colour)))
    canvas.items += _panels(question, _EDGE, mask)
    canvas.items += _panels(answer, second, ~np.ones((3, 3), np.bool_))
    x, y = _EDGE + side + arrow / 2, _EDGE + side / 2
    line = Style(None, draw.MUTED, 3)
    canvas.items.append(Polygon(((x - 11, y), (x + 11, y)), line, closed=False))
    head = ((x + 4, y - 7), (x + 11, y), (x + 4, y + 7))
    canvas.items.append(Polygon(head, line, closed=False))
    return canvas.svg()


def _panels(x: np.ndarray, left: float, mask: np.ndarray) -> Iterator[Item]:
    """The nine panels, a question mark in place of those in the mask."""
    for row in range(3):
        for column in range(3):
            place = left + column * _STEP, _EDGE + row * _STEP
            if mask[row, column]:
                style = Style(_UNKNOWN, "#2457a6", 1.6)
                yield Box(*place, draw.PANEL, draw.PANEL, 3, style)
                middle = place[0] + draw.PANEL / 2, place[1] + draw.PANEL / 2 + 15
                yield Text(*middle, "?", 44, "#2457a6", "middle", bold=True)
            else:
                yield from draw.panel(x[row, column], *place)
