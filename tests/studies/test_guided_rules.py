"""The study: resumed, pooled from its rows, refused in one line, and whole on one family."""

import json

import pytest

from assay import cli
from assay.runs import Run
from assay.studies import guided_config, guided_models, guided_rules
from assay.studies import guided_measures as measures

SMALL = {"families": ("exact",), "w": (0.0, 3.0), "rules": (30, 38), "n": 12, "n_rows": 30,
         "seeds": (0, 1), "shown": (38,)}  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small study of the exact law, whole: (config, its Run, closed)."""
    folder = tmp_path_factory.mktemp("guided") / "run"
    config = guided_config.build(SMALL)
    with Run.open(folder, config) as run:
        guided_rules.train(config, folder)
        guided_rules.fill(run, config.model_dump(mode="json"))
    return config, Run.read(folder)


def _part(run, name):
    return [row for row in run.rows if row["part"] == name]


def test_rows_carry_both_scales_n_seed_and_cost(small):
    _, run = small
    drawn = _part(run, "draws")
    assert {row["key"] for row in drawn} == {
        f"exact/w={w}/rule={r}/seed={s}" for w in (0, 3) for r in (30, 38) for s in (0, 1)
    }
    assert all(row["guidance_scale"] == 1 + row["w"] for row in drawn)
    assert {(row["w"], row["nfe"]) for row in drawn} == {(0.0, 20), (3.0, 40)}
    assert {row["n"] for row in drawn} == {6}  # the exact law draws a half
    assert all(row["intended"] == 1 and row["off_support_denoised"] == 0 for row in drawn)
    assert all(row["intended_low"] < 1 for row in drawn)
    assert "NaN" not in (run.path / "rows.jsonl").read_text()
    assert run.array("shown.exact-w3-s0").shape == (4, 9, 9)
    assert run.array_names() == ["shown.exact-w0-s0", "shown.exact-w3-s0"]


def test_pooled_rows_hold_all_draws_and_their_diversity_in_pairs(small):
    _, run = small
    pooled = {row["w"]: row for row in _part(run, "pooled")}
    drawn = [row for row in _part(run, "draws") if row["w"] == 3]
    assert pooled[3.0]["n"] == 24
    assert pooled[3.0]["vendi"] == pytest.approx(sum(row["vendi"] for row in drawn) / 4)
    assert pooled[0.0]["vendi_kept"] == pooled[0.0]["vendi_kept_low"] == 1
    data = {(r["rule"], r["seed"]): r["vendi"] for r in _part(run, "data")}
    ratios = [row["vendi"] / data[row["rule"], row["seed"]] for row in drawn]
    assert pooled[3.0]["vendi_of_data"] == pytest.approx(sum(ratios) / 4)


def test_the_best_w_is_chosen_on_the_first_seed_and_told_by_the_others(tmp_path):
    config = guided_config.build({**SMALL, "w": (0.0, 1.0, 3.0)})
    shares = {(0.0, 0): 3, (1.0, 0): 9, (3.0, 0): 8, (0.0, 1): 4, (1.0, 1): 5, (3.0, 1): 12}
    with Run.open(tmp_path / "made", config) as run:
        for (w, seed), k in shares.items():
            for rule in (30, 38):
                row = {"key": f"{w}{seed}{rule}", "part": "draws", "family": "exact", "w": w,
                       "rule": rule, "seed": seed, "n": 12, "nfe": 1, "intended": k / 12,
                       "intended_n": 12, **dict.fromkeys(measures.MEANS, 1.0)}  # fmt: skip
                run.append(row)
        best = guided_rules._Study(run, config, None)._best("exact")
    assert (best["w"], best["chosen_on"], best["seed"]) == (1.0, [0], [1])
    assert (best["intended"], best["intended_at_0"], best["n"]) == (10 / 24, 8 / 24, 24)
    wanted = measures.change(10, 24, 8, 24)
    assert (best["change"], best["change_low"], best["change_high"]) == pytest.approx(wanted)


def test_a_stopped_study_goes_on_and_ends_in_the_same_rows(small, tmp_path, monkeypatch):
    config, whole = small
    folder, drawn = tmp_path / "stopped", []
    plain = guided_models.Model.draw

    def stops(self, *args, **kwargs):
        drawn.append(args)
        if len(drawn) == 6:  # in the second group of the second seed
            raise KeyboardInterrupt
        return plain(self, *args, **kwargs)

    monkeypatch.setattr(guided_models.Model, "draw", stops)
    values = config.model_dump(mode="json")
    with Run.open(folder, config) as run, pytest.raises(KeyboardInterrupt):
        guided_rules.fill(run, values)
    with Run.open(folder, config) as run:
        left = guided_rules.work(config, run)
        told = []
        guided_rules.fill(run, values, told.append)
    assert sum(told) == left == 8 * 6 - 4 * 6  # two whole groups of two rules were there
    assert Run.read(folder).rows == whole.rows
    with Run.open(folder, config) as run:  # nothing is drawn again
        monkeypatch.setattr(guided_models, "exact", None)
        guided_rules.fill(run, values)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--w", "1,2"], "w must hold 0"),
        (["--w", "0,x"], "--w must be numbers, comma separated, got '0,x'"),
        (["--w", "0,nan"], "w"),
        (["--w", "0,1,1"], "w must name one or more, each once"),
        (["--families", "sit,foo"], "family 'foo' is unknown; choose from exact, twin"),
        (["--seeds", "-1"], "seeds"),
        (["--n", "1"], "n: "),
        (["--solver-steps", "0"], "--solver-steps must be 1 or more, got 0"),
        (["--shipped", "--families", "edm"], "family 'edm' is not shipped; choose from exact"),
        (["--shipped", "--steps", "5"], "--steps trains, --shipped does not"),
    ],
)
def test_bad_input_is_refused_in_one_line(flags, said, tmp_path, capsys):
    assert cli.main(["studies", "guided-rules", "--out", str(tmp_path / "x"), *flags]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "x").exists()


def test_a_rule_that_was_held_out_has_no_label_learned():
    with pytest.raises(ValueError, match="rule 34 has no label learned here; choose from 30"):
        guided_config.build({"rules": [30, 34]})


def test_the_command_writes_json_rows_and_says_itself(tmp_path, capsys):
    flags = ["--families", "exact", "--w", "0,2", "--n", "4", "--solver-steps", "6", "--json"]
    assert cli.main(["studies", "guided-rules", "--out", str(tmp_path / "run"), *flags]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["part"] for row in rows} == {"data", "model", "draws", "pooled", "best"}
    config = Run.read(tmp_path / "run").config
    said = "assay studies guided-rules --out DIR --families exact --w 0,2 --n 4 --solver-steps 6"
    assert config["command"] == said
    assert config["sampler"]["n_steps"] == 6
    assert {row["nfe"] for row in rows if row["part"] == "pooled"} == {6, 12}


@pytest.mark.slow
def test_a_family_trained_for_seconds_is_swept_whole(tmp_path):
    config = guided_config.build(
        {"families": ("settoken",), "w": (0.0, 1.0, 20.0), "rules": (30, 39), "n": 64,
         "n_steps": 300}
    )  # fmt: skip
    with Run.open(tmp_path / "run", config) as run:
        guided_rules.train(config, tmp_path / "run")
        guided_rules.fill(run, config.model_dump(mode="json"))
    pooled = {row["w"]: row for row in _part(run, "pooled")}
    assert pooled[0.0]["row_intended_low"] > 0.3  # a row of other rules keeps it hardly ever
    assert pooled[20.0]["row_intended_high"] < pooled[0.0]["row_intended_low"]
    (about,) = _part(run, "model")
    assert about["label_gain"] > 3 * about["label_gain_se"]
    assert about["samples_seen"] == 300 * 128
    assert pooled[0.0]["copied_sample"] == 0
