"""An audit of a diffusers pipeline: which w, why, the images, the measures by w."""

from __future__ import annotations

from collections.abc import Sequence

from assay.report import axes, rows, text
from assay.report import blocks as b
from assay.report import figures as fig
from assay.report.blocks import Block, Cell, Figure, Finding, Mark, Section, Table
from assay.report.rows import Row
from assay.report.sections import audit_pictures, curves
from assay.runs import Run

CLAIM = "Audited pipelines: the strongest guidance that keeps the limits"
TERMS = (
    ("off the support", "Share of the images farther from the reference than 95 % of the "
     "reference is from itself: the images at w = 0 of the same prompt and other seeds, or real "
     "images where a folder was given. About 5 % is what w = 0 itself shows. Images are "
     "compared as pixels, averaged to at most 32 × 32."),
    ("diversity", "Root mean square distance between two images of one prompt, as a share of that "
     "at w = 0. Vendi score: an effective number of different images, of as many as seeds."),
    ("clipped, range error", "Of the decoder's values before the pipeline clamps them to [−1, 1]: "
     "the share that is a grey level or more beyond, and how far beyond all are on average."),
    ("amplification", "Small independent errors, fixed along the way, are added to the "
     "conditional and the unconditional prediction: by how much more than that the final latents "
     "move, root mean square of both. It says what a network's own errors do at this w."),
    ("overshoot, returned, turned", "Latents x/√(1 + σ²), projected on the mean of the "
     "conditional minus the unconditional prediction at w = 0. Overshoot: the peak of the way "
     "beyond the far edge of the samples at w = 0; returned: how far it came back; turned: the "
     "share of the way that led back. Samplers that add noise turn at any w."),
    ("disagreement", "Root mean square difference of the two predicted noises, per entry."),
)  # fmt: skip
COLUMNS = {
    "off_support": "off the support", "diversity": "diversity", "vendi": "Vendi score",
    "clipped": "clipped", "range_error": "range error", "overshoot": "overshoot",
    "returned": "returned", "turned": "turned", "amplification": "amplification",
    "disagreement": "disagreement", "w_measured": "w as measured", "nfe": "evaluations an image",
    "seconds": "seconds an image",
}  # fmt: skip
_ONLY_SAMPLES = ("clipped", "returned", "turned", "disagreement")  # panels show their means
_SHARES = ("off_support", "diversity", "clipped", "turned")


def sections(run: Run) -> list[Section]:
    """The recommendation, images by w and prompt, measures, trajectories, tables."""
    lines = rows.by_w(_of(run, "weight"))
    name = str(run.config.get("pipeline"))
    lead = (
        f"{name} ({run.config.get('pipeline_class')}), run under its own scheduler "
        f"({run.config.get('scheduler')}) and recorded step by step, for "
        f"{text.plural(len(run.config.get('prompts') or []), 'prompt')}."
    )
    shown: list[Block] = [
        *audit_pictures.grids(run, _of(run, "sample")), *measures(lines),
        *audit_pictures.trajectories(run, _of(run, "sample")), *([table(lines)] if lines else []),
        samples(_of(run, "sample")), b.Terms("The measures of this audit, explained", TERMS),
    ]  # fmt: skip
    told, how = b.said(findings(run)), text.command(run.config)
    title = f"How hard may {name} be guided?"
    return [Section(anchor(run), title, lead, told, shown, method(run), how)]


def anchor(run: Run) -> str:
    """The section's anchor."""
    return text.slug(f"audit-{run.path.name}")


def _of(run: Run, kind: str) -> list[Row]:
    return [r for r in run.rows if r.get("row") == kind]


# ---- what to conclude --------------------------------------------------------------------------


def findings(run: Run) -> list[Finding]:
    """The recommended weight with its reason and rule; what amplification and the paper's rule
    say beside it; what a reader should be warned of."""
    found = next(iter(_of(run, "recommendation")), None)
    if found is None:
        return []
    lines = rows.by_w(_of(run, "weight"))
    first = f"{run.config.get('pipeline')}: recommended is {text.weight(found['w'])}. "
    told = [first + str(found.get("reason"))]
    more = [str(found.get("criterion")), sureness(found), amplified(lines), paper(found)]
    more += [str(words) for words in found.get("warnings") or []]
    return [Finding(CLAIM, told, anchor(run), [words for words in more if words])]


def sureness(found: Row) -> str:
    """Whether the intervals keep the limits too."""
    n = f"n = {text.number(found.get('n'))} samples a weight"
    if found.get("sure"):
        return f"The 95 % intervals at the recommended w keep the limits too ({n})."
    return (
        f"The limits are kept by the estimates, not by the whole 95 % intervals ({n}): more "
        "prompts and seeds would tell."
    )


def amplified(lines: Sequence[Row]) -> str:
    """How much more the errors of a network move its samples at the largest weight."""
    usable = rows.known(lines, "amplification")
    if len(usable) < 2 or not usable[0]["amplification"]:
        return ""
    zero, last = usable[0], usable[-1]
    times = last["amplification"] / zero["amplification"]
    return (
        f"The same small errors of the predictions move the final latents "
        f"{text.number(times, 3)} times as far at {text.weight(last['w'])} as at w = 0."
    )


def paper(found: Row) -> str:
    """What the rule of monotone trajectories would choose."""
    w = rows.value(found, "monotone_rule_w")
    if w is None:
        return "The rule of monotone trajectories says nothing here: at w = 0 none is monotone."
    return f"The rule of monotone mean trajectories would choose {text.weight(w)}."


# ---- measures ----------------------------------------------------------------------------------


def measures(lines: Sequence[Row]) -> list[Block]:
    """One panel a measure, against w."""
    group = {"guided": rows.by_w(lines)}
    share = axes.axis("share of w = 0", tickformat=".0%", rangemode="tozero")
    panels = [
        curves.curve(group, "off_support", axes.shares("share of images", False), "Off support"),
        curves.curve(group, "diversity", share, "Diversity"),
        curves.curve(group, "range_error", _positive("mean excess"), "Range error"),
        curves.curve(group, "amplification", _positive("× size of the error"), "Amplification"),
        curves.curve(group, "overshoot", axes.axis("latent units"), "Overshoot"),
        curves.curve(group, "returned", _positive("latent units"), "Returned"),
        curves.curve(group, "disagreement", _positive("rms of predicted noise"), "Disagreement"),
        curves.curve(group, "seconds", _positive("seconds an image"), "Cost"),
    ]
    drawn: list[Figure] = [p for p in panels if p is not None]
    caption = (
        "By w, mean over prompts and seeds with 95 % intervals. Amplification: errors of the "
        "predictions are planted, the displacement of the final latents is measured."
    )
    legend = (Mark("guided images", fig.GUIDED, "point"),)
    return [b.Gallery(drawn, caption, legend, b.beside(len(drawn)))] if drawn else []


def _positive(title: str) -> dict[str, object]:
    return axes.axis(title, rangemode="tozero")


# ---- tables ------------------------------------------------------------------------------------


def table(lines: Sequence[Row]) -> Table:
    """A line a weight, in both conventions, with intervals below."""
    shown = [c for c in COLUMNS if rows.known(lines, c) and c not in _ONLY_SAMPLES]
    columns = ["w", "guidance_scale", *(COLUMNS[c] for c in shown), "n"]
    cells = [
        [row["w"], row["guidance_scale"], *(_cell(row, c) for c in shown), row.get("n")]
        for row in lines
    ]
    caption = (
        "Below each figure its 95 % interval: Wilson's for shares of images, otherwise by "
        "resampling prompts, or images where the prompts are few. n: images."
    )
    return Table(columns, cells, caption, "All weights")


def _cell(row: Row, column: str) -> Cell:
    show = text.ratio if column in _SHARES else lambda v: text.number(v, 3)
    low, high = (rows.value(row, f"{column}_{end}") for end in ("low", "high"))
    detail = "" if low is None or high is None else f"{show(low)} to {show(high)}"
    return Cell(show(rows.value(row, column)), detail=detail)


def samples(found: Sequence[Row]) -> Table:
    """A line a sample, folded away."""
    kept = [c for c in COLUMNS if rows.known(found, c)]
    columns = ["prompt", "seed", "w", "guidance_scale", *(COLUMNS[c] for c in kept)]
    cells = [
        [str(r.get("prompt")), r.get("seed"), r["w"], r["guidance_scale"],
         *(Cell(text.number(rows.value(r, c), 3)) for c in kept)]
        for r in found
    ]  # fmt: skip
    return Table(columns, cells, "", "Table: every image", folded=True)


def method(run: Run) -> str:
    """How the rows were made."""
    config = run.config
    settings = config.get("settings") or {}
    seeds = text.listed(text.number(s) for s in settings.get("seeds") or [])
    steps = settings.get("steps")
    said = next((str(r["convention"]) for r in run.rows if r.get("convention")), "")
    images = config.get("images") or {}
    reference = (
        f"Reference of support: {text.plural(images['n'], 'image')} of the folder "
        f"{images['name']}." if images else "Reference of support: the samples at w = 0."
    )  # fmt: skip
    return (
        f"{config.get('pipeline_class')} under {config.get('scheduler')}, prediction "
        f"{config.get('prediction')}, {'its own number of' if steps is None else steps} steps, "
        f"seeds {seeds}; {said}. Evaluations are those of the pipeline; the unconditional "
        f"prediction that it skips at w = 0 was added and not counted. {reference}"
    )
