"""assay guidance rollout: start, observe, status, verify, production, simulate; clear errors."""

import io
import json

import numpy as np
import pytest
from scipy import stats

from assay import cli
from assay.guidance.rollouts import exact as rollout_exact
from assay.guidance.rollouts import rule as rollout_rule
from assay.guidance.rollouts import simulation
from assay.runs import Run

GUARDS = ("--guard", "off at most 0.1", "--guard", "quality at least 0.5")
HOSTILE = "[bold]<script>off[/]"


@pytest.fixture
def assay(capsys):
    def call(*words):
        code = cli.main(["guidance", "rollout", *map(str, words)])
        out = capsys.readouterr()
        return code, out.out, out.err

    return call


def lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def started(assay, log, *more):
    assert assay("start", log, "--stages", "0,0.5,1", *GUARDS, *more)[0] == 0
    return log


def test_a_rollout_from_start_to_a_rollback(assay, tmp_path):
    log = started(assay, tmp_path / "log.jsonl")
    good = lines(tmp_path / "good.jsonl", [{"off": 0, "quality": 0.9}] * 200)
    bad = lines(tmp_path / "bad.jsonl", [{"off": 1, "quality": 0.9}] * 50)
    code, out, _ = assay("observe", log, good)
    assert code == 0
    assert "promote: w = 0 is good" in out
    assert "serve w = 0.5 (guidance_scale 1.5)" in out
    head = json.loads(assay("status", log, "--json")[1])["head"]
    code, out, _ = assay("observe", log, bad, "--json")
    said = json.loads(out)
    assert (said["action"], said["w"], said["guidance_scale"]) == ("roll_back", 0, 1)
    code, out, _ = assay("verify", log, "--head", head)
    assert code == 0
    assert "whole: 7 entries" in out
    assert "3 came after that head" in out
    assert json.loads(assay("verify", log, "--head", head, "--json")[1])["after"] == 3
    log.write_bytes(log.read_bytes()[:-1] + b" ")
    now = json.loads(log.read_text().splitlines()[-1])["hash"]
    code, _, err = assay("verify", log, "--head", now)
    assert code == 2
    assert "not among them" in err


def test_rows_from_stdin_and_rows_that_name_their_w(assay, tmp_path, monkeypatch):
    log = started(assay, tmp_path / "log.jsonl")
    good = {"off": 0, "quality": 0.9}
    rows = [good] * 100 + [{**good, "w": 0.5}] * 100 + [good] * 10
    text = "\n".join(json.dumps(r) for r in rows) + "\n\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    code, out, _ = assay("observe", log, "-", "--json")
    assert code == 0
    said = [json.loads(line) for line in out.splitlines()]
    assert [s["action"] for s in said] == ["promote", "promote", "ignore"]
    assert said[-1]["w"] == 1
    assert said[-1]["reason"].startswith("these rows were made at w = 0;")


def test_production_by_command(assay, tmp_path):
    log = started(assay, tmp_path / "log.jsonl")
    assert assay("production", log)[0] == 2
    assay("observe", log, lines(tmp_path / "a.jsonl", [{"off": 0, "quality": 0.9}] * 200))
    code, out, _ = assay("production", log, "--reason", "enough [bold]")
    assert code == 0
    assert "in production at w = 0" in out
    assert "enough [bold]" in log.read_text()


def test_a_log_is_drawn_as_it_stands(assay, tmp_path):
    log = started(assay, tmp_path / "log.jsonl")
    rows = [{"off": 0, "quality": 0.9, "w": w} for w in (0, 0.5, 1, 1) for _ in range(200)]
    assay("observe", log, lines(tmp_path / "a.jsonl", rows))
    assert assay("draw", log, "--out", tmp_path / "run")[0] == 0
    run = Run.read(tmp_path / "run")
    (row,) = run.rows
    assert [e["kind"] for e in row["events"]] == ["promoted"] * 3
    assert (row["w"], row["state"]) == (1, "production")
    assert row["head"] == json.loads(assay("status", log, "--json")[1])["head"]
    off = run.array("guard0.trace-log")
    ends = [e["row"] for e in row["events"]]
    assert off[0].tolist() == list(range(1, ends[-1] + 1))
    assert [off[5, end - 1] for end in ends] == [0.1] * 3  # the limit, and no mean beyond it
    assert (off[5][np.isin(off[0], ends, invert=True)] > 0.1).any()
    assay("observe", log, lines(tmp_path / "b.jsonl", [{"off": 0, "quality": 0.9}]))
    code, _, err = assay("draw", log, "--out", tmp_path / "run")
    assert code == 2
    assert "another configuration (head differ" in err


def test_names_with_markup_are_shown_as_written(assay, tmp_path):
    log = tmp_path / "log.jsonl"
    code, out, _ = assay("start", log, "--stages", "0", "--guard", f"{HOSTILE} at most 0.5")
    assert code == 0
    assert HOSTILE in out
    code, out, _ = assay("observe", log, lines(tmp_path / "a.jsonl", [{HOSTILE: 1}] * 50))
    assert code == 0
    assert f"is bad: {HOSTILE}" in out


@pytest.mark.parametrize(("words", "said"), [
    (["start", "LOG", "--stages", "0,x", *GUARDS], "must be numbers, comma separated"),
    (["start", "LOG", "--stages", "1,0", *GUARDS], "must increase"),
    (["start", "LOG", "--stages", "0", "--guard", "speed"], "is not understood"),
    (["start", "LOG", "--stages", "0"], "guard"),
    (["start", "LOG", "--stages", "0", *GUARDS, "--alpha", "2"], "alpha"),
    (["start", "LOG/x/log", "--stages", "0", *GUARDS], ""),
    (["start", "HERE", "--stages", "0", *GUARDS], "is there already"),
    (["observe", "LOG", "ROWS"], "begin one with assay guidance rollout start"),
    (["observe", "HERE", "LOG"], "no such file"),
    (["observe", "HERE", "TEXT"], "line 1 is no JSON object"),
    (["observe", "HERE", "EMPTY"], "holds no rows"),
    (["observe", "HERE", "ROWS"], "'speed', which is no guard"),
    (["status", "LOG"], "holds no rollout"),
    (["status", "TEXT"], "entry 0 (line 1) was edited or is damaged"),
    (["status", "DIR"], "cannot be read"),
    (["verify", "HERE", "--head", "12"], "64 hexadecimal digits"),
    (["verify", "LOG", "--head", "0" * 64], "no such log"),
    (["simulate", "--out", "DIR", "--n", "0"], "n 0 must be 1 or more"),
])  # fmt: skip
def test_errors_are_one_line_and_exit_2(assay, tmp_path, words, said):
    here = started(assay, tmp_path / "here.jsonl")
    (tmp_path / "text").write_text("not a log\n")
    (tmp_path / "empty").write_text("\n")
    lines(tmp_path / "rows", [{"speed": 1}])
    places = {"LOG": tmp_path / "log.jsonl", "HERE": here, "DIR": tmp_path,
              "ROWS": tmp_path / "rows", "TEXT": tmp_path / "text",
              "EMPTY": tmp_path / "empty"}  # fmt: skip
    if words[1].startswith("LOG/"):
        (tmp_path / "log.jsonl").write_text("")
    before = here.read_bytes()
    where = [str(places["LOG"]) + w[3:] if w.startswith("LOG/") else places.get(w, w)
             for w in words]  # fmt: skip
    code, _, err = assay(*where)
    assert code == 2
    assert err.startswith("assay: ")
    assert err.count("\n") == 1
    assert said in err
    assert here.read_bytes()[: len(before)] == before


# ---- simulation --------------------------------------------------------------------------------

SMALL = simulation.Study(n=40, stages=(0.0, 1.0), faulty_from=1, budget=600, before=300, after=300)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    with Run.open(folder, SMALL.data()) as run:
        simulation.fill(run, SMALL)
    return folder


def test_simulated_rates_are_ordered_as_the_faults_are(simulated):
    rows = {row["key"]: row for row in Run.read(simulated).rows}
    assert len(rows) == 26
    far = rows["stages/quality/3"]
    assert far["rolled_back"] == 1 - far["held"]  # held at a healthy stage, or rolled back
    assert far["delay_90"] <= rows["stages/quality/1.5"]["delay_median"]
    assert rows["stages/clean/0.2"]["false_rollback"] <= 0.05
    assert all(r["promoted_bad"] <= 0.15 for k, r in rows.items() if k.startswith("stages"))
    assert rows["production/quality/3"]["detected"] == 1
    assert rows["production/clean/0.2"]["false_alarm"] == 0
    for row in rows.values():
        assert row["guidance_scale"] == (None if row["w"] is None else 1 + row["w"])


def test_exact_law_agrees_with_simulated_stages_and_a_closed_form():
    # 800 streams at 3 times the limit; error probability 1e-4 for each of three figures
    plan, n = rollout_rule.plan([0, 1], simulation.GUARDS, 0.3, 700), 800
    for rate, at in ((0.03, 3.0), (0.01, 1.0)):
        promoted, rolled = rollout_exact.stage_law(plan, rate)
        verdict, rows = simulation.run_stage(plan, (at, 0.2), n, np.random.default_rng(3))
        for law, found in ((promoted, verdict == 1), (rolled, verdict == -1)):
            low, high = stats.binom.ppf([1e-4, 1 - 1e-4], n, law.sum())
            assert low <= found.sum() <= high
        assert rows[verdict == 1].min() == np.flatnonzero(promoted)[0] + 1
    least = np.flatnonzero(promoted)[0] + 1  # no event so far: probability 0.99^n
    assert promoted[least - 1] == pytest.approx(0.99**least)
    assert promoted.sum() <= 0.3
    assert rolled.sum() <= plan.beta


def test_simulation_resumes_and_repeats(simulated, tmp_path):
    with Run.open(simulated, SMALL.data()) as run:
        simulation.fill(run, SMALL)
        first = run.rows
    assert len((simulated / "rows.jsonl").read_text().splitlines()) == len(first) == 26
    with Run.open(tmp_path / "again", SMALL.data()) as run:
        simulation.fill(run, SMALL)
        assert run.rows == first


def test_traces_hold_intervals_that_decide(simulated):
    run = Run.read(simulated)
    for row in run.rows:
        if row["part"] != "trace":
            continue
        assert row["events"]
        for i, guard in enumerate(row["guards"]):
            path = run.array(f"guard{i}.{row['key']}")
            assert path.shape[0] == 6
            assert (path[4] <= path[5]).all()
            assert path[0, -1] == row["n"]
            if row["events"][0]["kind"] == "promoted":
                last = path[:, path[1] == 0][:, -1]
                inside = last[5] <= 0.01 if guard["side"] == "at most" else last[4] >= 0.8
                assert inside
