"""Findings on simulated studies: claims planted true and planted false get their verdicts."""

import json

import numpy as np
import pytest

from assay import cli, runs
from assay.core import intervals
from assay.rules import genraven
from assay.rules.scaling.findings import (
    amounts,
    claims,
    copying,
    correlation,
    evidence,
    heads,
    study,
)
from assay.rules.scaling.findings.drawing import FindingsConfig

SIZES = (25, 400, 6400)
RULES = [genraven.RULES[i].name for i in (30, 31, 32, 33, 35, 36, 38, 39)]


def share(name, p, n=2000):
    low, high = intervals.wilson(p * n, n)
    return {name: p, f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}


def probe(step, validation, c3, novel=None, completion=0.5):
    novel = c3 if novel is None else novel
    return {
        "key": f"probe-{step}", "step": step, "samples": 64 * step, "validation_loss": validation,
        "train_loss": 0.1, "copies_row": 0.0, **share("c3", c3, 256),
        **share("novel_c3", novel, 256), **share("completion", completion, 256),
    }  # fmt: skip


def row(model="edm", family="edm", size=25, seed=0, c3=0.9, **more):
    own = {"novel_c3": c3, "c3": c3, "completion_trained": 0.9, **more.pop("shares", {})}
    found = {
        "key": f"{model}.n{size}.mini.seed{seed}", "status": "done", "model": model,
        "family": family, "rule_set": "mini", "per_rule": size, "seed": seed, "weights": "raw",
        "unconditional_nfe": 35, "completion_nfe": 19, "probes": [],
    }  # fmt: skip
    for name, p in own.items():
        found |= share(name, p)
    return found | more


def pool(rows, name="c3"):
    found = evidence.pooled(rows, name)
    assert found is not None
    return found


def subjects(tmp_path, rows):
    return evidence.subjects([written(tmp_path, rows)])


def written(tmp_path, rows, name="study"):
    with runs.Run.open(tmp_path / name, {"kind": "rules.scale"}) as run:
        for r in rows:
            run.append(r)
    return evidence.read(tmp_path / name)


def verdicts(rows, model=None):
    return [r["verdict"] for r in rows if r["part"] == "verdict" and r["model"] == model]


def by_size(values, model="edm", family="edm", name="c3", seeds=(0, 1)):
    names = (name, "novel_c3") if name == "c3" else (name,)
    return [
        row(model, family, size, seed, shares=dict.fromkeys(names, p))
        for size, p in zip(SIZES, values, strict=True)
        for seed in seeds
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0.01, 0.5, 0.9), "holds"),
        ((0.85, 0.9, 0.9), "does not hold"),
        ((0.45, 0.9, 0.9), "cannot be told here"),
        ((0.01, 0.01, 0.03), "cannot be told here"),
    ],
)
def test_collapse_is_found_where_it_is_planted(tmp_path, values, said):
    rows = amounts.collapse(subjects(tmp_path, by_size(values)))
    assert verdicts(rows, "edm") == verdicts(rows) == [said]


def test_collapse_is_judged_by_c3_unless_rows_are_copied(tmp_path):
    def planted(copies):
        return [
            row(size=size, shares={"c3": 0.9, "novel_c3": p, "copies_row": q, "natural_row": 0.2})
            for size, p, q in ((25, 0.1, copies), (6400, 0.5, 0.2))
        ]

    rows = amounts.collapse(subjects(tmp_path / "nature", planted(0.2)))
    assert verdicts(rows) == ["does not hold"]
    rows = amounts.collapse(subjects(tmp_path / "copied", planted(0.9)))
    assert verdicts(rows) == ["holds"]
    assert [r["judged"] for r in rows if r["part"] == "evidence"] == ["novel_c3", "c3"]


def test_the_claim_of_collapse_is_not_about_other_families(tmp_path):
    planted = by_size((0.01, 0.5, 0.9), "masked", "masked") + by_size((0.9, 0.9, 0.9))
    rows = amounts.collapse(subjects(tmp_path, planted))
    assert verdicts(rows, "masked") == ["holds"]
    assert verdicts(rows) == ["does not hold"]


@pytest.mark.parametrize(
    ("c3", "novel", "said"),
    [
        (0.8, 0.8, "holds"),
        (0.05, 0.05, "does not hold"),
        (0.8, 0.0, "does not hold"),
        (0.8, 0.45, "cannot be told here"),
    ],
)
def test_stopping_is_judged_by_what_is_new_at_the_least_validation_loss(tmp_path, c3, novel, said):
    looked = [probe(10, 2.0, 0.0), probe(50, 0.5, c3, novel), probe(200, 3.0, 0.9, 0.0)]
    planted = [
        row(size=size, seed=seed, c3=0.9 if size == 6400 else 0.01, probes=looked)
        for size in (25, 6400) for seed in (0, 1)
    ]  # fmt: skip
    rows = amounts.stopping(subjects(tmp_path, planted))
    assert verdicts(rows, "edm") == verdicts(rows) == [said]
    early = next(r for r in rows if r["measure"] == "C3, least validation loss")
    assert early["value"] == c3
    assert early["seeds"] == 2


@pytest.mark.parametrize(
    ("values", "said", "since"),
    [((0.85, 0.9, 0.9), "holds", "25"), ((0.1, 0.85, 0.9), "does not hold", "400")],
)
def test_stable_completion_says_from_how_much_data(tmp_path, values, said, since):
    planted = by_size(values, "gpt2", "autoregressive", "completion_trained")
    rows = amounts.stable(subjects(tmp_path, planted))
    assert verdicts(rows, "gpt2") == verdicts(rows) == [said]
    assert f"from {since} on" in next(r["said"] for r in rows if r["part"] == "verdict")


@pytest.mark.parametrize(
    ("copies", "said"),
    [((0.9, 0.01), "holds"), ((0.9, 0.2), "does not hold"), ((0.01, 0.01), "does not hold")],
)
def test_memorisation_is_what_lies_beyond_nature(tmp_path, copies, said):
    planted = [
        row(size=size, shares={"copies_row": p, "natural_row": 0.01})
        for size, p in zip((25, 6400), copies, strict=True)
    ]
    rows = copying.memorisation(subjects(tmp_path, planted))
    assert verdicts(rows, "edm") == verdicts(rows) == [said]


@pytest.mark.parametrize(
    ("own", "said"),
    [(0.3, "does not hold"), (0.02, "holds"), (0.1, "cannot be told here")],
)
def test_held_out_rules_stand_beside_the_chance_line_of_their_own_items(tmp_path, own, said):
    marginal = {**share("completion_marginal_all", 0.1, 1000),
                **share("completion_marginal_trained", 0.1, 750)}  # fmt: skip
    planted = [row(size=6400, **share("completion_held_out", own, 250), **marginal)]
    rows = copying.held_out(subjects(tmp_path, planted))
    assert verdicts(rows, "edm") == verdicts(rows) == [said]
    assert rows[0]["chance"] == pytest.approx(0.1)
    assert rows[0]["chance_n"] == 250


@pytest.mark.parametrize(
    ("slope", "said"), [(1, "holds"), (-1, "does not hold"), (0, "cannot be told here")]
)
def test_correlation_over_rules(tmp_path, slope, said):
    planted = [row(size=6400)]
    read = written(tmp_path, planted)
    levels = np.linspace(0.1, 0.9, len(RULES))
    noise = np.array([3, -1, 2, -3, 1, -2, 3, -3]) / 300
    drawn = 0.06 + (0.05 * slope * levels if slope else 0.0) + noise
    with runs.Run.open(read.job(planted[0]) / "evaluation", {"kind": "rules.evaluate"}) as run:
        for i, (name, a, b) in enumerate(zip(RULES, levels, drawn, strict=True)):
            run.append({"key": f"c{i}", "part": "completion_rule", "rule": name, "correct": a})
            run.append({"key": f"u{i}", "part": "rule", "rule": name, "share": b,
                        "trained": True, "temperature": 1.0})  # fmt: skip
    rows = correlation.correlation(evidence.subjects([read]))
    assert verdicts(rows, "edm") == [said]
    expected = np.corrcoef(levels, drawn)[0, 1]
    assert rows[0]["pearson"] == pytest.approx(expected)
    assert rows[0]["pearson_low"] < expected < rows[0]["pearson_high"]


def test_pooled_trials_undo_wilson_and_seeds_that_differ_widen_the_interval():
    one = pool([share("c3", 0.3, 500)])
    assert (one.low, one.high) == pytest.approx(intervals.wilson(150, 500))
    clustered = {**share("c3", 0.3, 500), "c3_n": 1500}  # three flags a sample
    assert pool([clustered]).low == pytest.approx(one.low)
    alike = pool([share("c3", 0.3, 500)] * 2)
    assert (alike.low, alike.high) == pytest.approx(intervals.wilson(300, 1000))
    apart = pool([share("c3", 0.1, 500), share("c3", 0.5, 500)])
    assert apart.value == pytest.approx(0.3)
    assert apart.high - apart.low > 3 * (alike.high - alike.low)
    assert pool([share("c3", 0.0, 500)]).high == pytest.approx(intervals.wilson(0, 500)[1])


def test_the_cause_is_what_brings_back_half_of_the_gap():
    def ways(separate, once, joint, independent, values):
        own = {
            "separate": {heads.AS_IT_IS: separate, heads.ONCE: once},
            "joint": {
                heads.AS_IT_IS: joint,
                heads.INDEPENDENT: independent,
                heads.VALUES: values,
            },
        }
        pooled = {
            kind: {way: pool([share("c3", p)]) for way, p in made.items()}
            for kind, made in own.items()
        }
        return heads.cause("forty", 400, pooled)

    found = ways(0.05, 0.8, 0.95, 0.06, 0.9)
    assert found["verdict"] == "holds"
    assert "0.83 of the gap between heads and 0.94 of what" in found["said"]
    assert ways(0.05, 0.1, 0.95, 0.06, 0.07)["verdict"] == "does not hold"
    assert ways(0.05, 0.5, 0.95, 0.06, 0.07)["verdict"] == "cannot be told here"
    assert "no gap" in ways(0.05, 0.5, 0.05, 0.06, 0.07)["said"]


@pytest.mark.parametrize(
    ("joint", "said"),
    [
        ((0.9, 0.95), "holds"),
        ((0.9, 0.2), "does not hold"),
        ((0.9, 0.9), "holds"),
        ((0.9, 0.72), "cannot be told here"),
    ],
)
def test_heads_are_compared_by_how_c3_moves_with_data(tmp_path, monkeypatch, joint, said):
    monkeypatch.setattr(heads, "head", lambda subject: subject.model)
    planted = [
        row(kind, "autoregressive", size, c3=p)
        for kind, values in (("separate", (0.4, 0.05)), ("joint", joint))
        for size, p in zip((25, 6400), values, strict=True)
    ]
    rows = heads.consistency(subjects(tmp_path, planted))
    assert verdicts(rows, "separate") == ["holds"]
    assert verdicts(rows) == [said]


def test_ways_of_drawing_a_token_are_the_laws_they_say():
    torch = pytest.importorskip("torch")
    sizes, rng = (3, 4, 2), torch.Generator().manual_seed(0)
    log_p = torch.log_softmax(torch.randn(5, 24, generator=rng, dtype=torch.float64), -1)
    p = log_p.exp().view(5, *sizes)
    once = heads.occupancy_once(log_p, sizes).exp().view(5, *sizes)
    assert torch.allclose(once[:, 0, 0, 0], p[:, 0].sum((1, 2)))
    inner = p[:, 1:, 1:, 1:]
    assert torch.allclose(
        once[:, 1:, 1:, 1:].flatten(1) / once[:, 1:, 1:, 1:].flatten(1).sum(1, keepdim=True),
        inner.flatten(1) / inner.flatten(1).sum(1, keepdim=True),
    )
    assert torch.allclose(once.flatten(1).sum(1), torch.ones(5).double())
    product = heads.parts_independent(log_p, sizes).exp().view(5, *sizes)
    marginals = p.sum((2, 3)), p.sum((1, 3)), p.sum((1, 2))
    assert torch.allclose(product, torch.einsum("na,nb,nc->nabc", *marginals))
    values = heads.values_independent(log_p, sizes).exp().view(5, *sizes)
    assert torch.allclose(values[:, 0, 0, 0], marginals[0][:, 0])
    inner = values[:, 1:, 1:, 1:] / values[:, 1:, 1:, 1:].sum((1, 2, 3), keepdim=True)
    rest = [m[:, 1:] / m[:, 1:].sum(1, keepdim=True) for m in marginals]
    assert torch.allclose(inner, torch.einsum("na,nb,nc->nabc", *rest))


def test_emptiness_counts_cells_empty_in_one_attribute_alone():
    x, _ = genraven.generate(40, [10], 0)
    assert heads.emptiness(x)["any_half"] == 0
    occupied = np.argwhere((x >= 0).all(-1))
    first = [occupied[(occupied[:, 0] == i)][0] for i in range(20)]
    for i, r, c, cell in first:
        x[i, r, c, cell, 2] = -1
    found = heads.emptiness(x)
    assert found["any_half"] == 0.5
    assert found["half_empty"] == pytest.approx(20 / len(occupied))
    assert found["c3_whole"] == 1.0


def test_the_command_is_resumable_says_what_is_missing_and_has_a_page(tmp_path, capsys):
    written(tmp_path, by_size((0.01, 0.5, 0.9)))
    command = ["rules", "findings", str(tmp_path / "study"), "--out", str(tmp_path / "found")]
    assert cli.main([*command, "--rows-only", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {r["claim"] for r in rows} == set(claims.CLAIMS)
    assert all(r["command"].startswith("assay rules findings study --out found") for r in rows)
    missing = {r["claim"]: r["said"] for r in rows if r["part"] == "missing"}
    assert "examples/clip.toml" in missing["clip"]
    before = (tmp_path / "found" / "rows.jsonl").read_bytes()
    assert cli.main([*command, "--rows-only"]) == 0
    assert (tmp_path / "found" / "rows.jsonl").read_bytes() == before
    page = (tmp_path / "found" / "report.html").read_text()
    assert "Diffusion collapses at small data" in page
    assert "does not hold" not in page.partition("Early stopping")[0].rpartition("collapses")[2]


def test_a_study_that_has_grown_is_tested_again_and_the_last_finding_counts(tmp_path):
    config = FindingsConfig(studies=("study",), draw=False)
    with runs.Run.open(tmp_path / "study", {"kind": "rules.scale"}) as run:
        for r in by_size((0.01, 0.5, 0.9)):
            run.append(r)
        study.findings([tmp_path / "study"], tmp_path / "found", config)
        run.append(row(size=25, seed=2, c3=0.9))
        run.append(row(size=25, seed=3, c3=0.9))
    rows = study.findings([tmp_path / "study"], tmp_path / "found", config)
    whole = [r for r in rows if r["claim"] == "collapse"]
    assert verdicts(whole, "edm") == ["cannot be told here"]
    assert len({r["digest"] for r in whole}) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere", "--out", "x"], "nowhere"),
        (["other", "--out", "x"], "no scaling study"),
        (["study", "--out", "x", "--n", "3"], "--n must be 16 or more"),
        (["study", "study", "--out", "x"], "named 'study'"),
    ],
)
def test_what_cannot_be_tested_is_refused_in_one_line(
    tmp_path, arguments, said, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, [row()])
    with runs.Run.open(tmp_path / "other", {"kind": "rules.train"}):
        pass
    assert cli.main(["rules", "findings", *arguments]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


STUDY = """
rule_sets = ["10+30"]
per_rule = [4]
steps = 4
probes = 2
probe_n = 16

[[models]]
name = "separate"
recipe = "gpt2-separate-small"
network = {width = 32, layers = 1, heads = 1}
fit = {batch = 8}

[[models]]
name = "joint"
recipe = "gpt2-small"
network = {width = 32, layers = 1, heads = 1}
fit = {batch = 8}

[[models]]
name = "edm"
recipe = "edm-small"
network = {width = 8, attention = [3]}
fit = {batch = 8}

[evaluate]
n = 16
protocols = ["unconditional", "copies", "completion"]
"""


@pytest.mark.slow
def test_findings_from_a_study_of_real_models(tmp_path, capsys):
    (tmp_path / "study.toml").write_text(STUDY)
    folder = str(tmp_path / "study")
    scale = ["rules", "scale", str(tmp_path / "study.toml"), "--out", folder]
    assert cli.main([*scale, "--workers", "1"]) == 0
    capsys.readouterr()
    flags = ["--n", "16", "--n-complete", "16", "--json"]
    command = ["rules", "findings", folder, "--out", str(tmp_path / "found"), *flags]
    assert cli.main(command) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    said = {r["claim"] for r in rows if r["part"] == "verdict"}
    assert said == {"half-empty", "weights", "clip", "samplers"}
    ways = {(r["head"], r["way"]) for r in rows if r["claim"] == "half-empty" and "way" in r}
    assert ways == {
        ("separate", heads.AS_IT_IS), ("separate", heads.ONCE),
        ("joint", heads.AS_IT_IS), ("joint", heads.INDEPENDENT), ("joint", heads.VALUES),
    }  # fmt: skip
    once = [r for r in rows if r.get("way") == heads.ONCE]
    assert {r["value"] for r in once if r["measure"] == "half-empty cells"} == {0.0}
    clipped = [r for r in rows if r["claim"] == "clip" and r["part"] == "evidence"]
    assert {(r["kind"], r["clip"]) for r in clipped} == {
        (kind, cut) for kind in ("amortised", "replacement") for cut in (None, 1.0)
    }
    drawn = [r for r in rows if r["claim"] == "samplers" and r["part"] == "evidence"]
    assert {r["nfe"] for r in drawn if r["sampler"] == "heun"} == {5, 11, 23, 49, 99}
    assert all(r["weights"] in ("EMA", "raw") for r in rows if r["part"] == "evidence")
    before = (tmp_path / "found" / "rows.jsonl").read_bytes()
    assert cli.main(command) == 0
    assert (tmp_path / "found" / "rows.jsonl").read_bytes() == before
    assert "occupancy once" in (tmp_path / "found" / "report.html").read_text()
