"""Sweeps from the command line: right rows, resumed rows, refused input."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import assay
from assay.cli import main
from assay.guidance import config, sweep
from assay.runs import Run


def _sweep(*words):
    return main(["guidance", "sweep", *map(str, words)])


def test_sweep_rows_hold_the_known_numbers(tmp_path, capsys):
    assert (
        _sweep("--target", "gaussians", "--w", "0,1,3", "--out", tmp_path / "run", "--json") == 0
    )
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["w"] for r in rows] == [0, 1, 3]
    assert [r["guidance_scale"] for r in rows] == [1, 2, 4]
    assert {r["solver"] for r in rows} == {"exact"}
    assert rows[2]["mean"] == pytest.approx(2.3484823087, abs=1e-9)
    assert rows[2]["median"] == pytest.approx(2.2848225750, abs=1e-9)
    assert rows[2]["tilted_mean"] == pytest.approx(1.5394758197, abs=1e-9)
    # two mirrored classes and w >= 0: W1 to the conditional is the difference of means
    assert rows[2]["w1_to_cond"] == pytest.approx(2.3484823087 - 1, abs=1e-8)
    assert rows[0]["w1_to_cond"] == pytest.approx(0, abs=1e-9)
    # HDR99.9 of the conditional N(1, 1): 0.001 of it lies outside by definition
    assert rows[0]["off_support"] == pytest.approx(1e-3, rel=1e-6)
    frame = assay.open(tmp_path / "run").frame()
    for name in ("key", "target", "law", "n", "seed", "nfe", "sd", "off_support_denoised"):
        assert name in frame


def test_sweep_exact_and_sampled_rows_agree(tmp_path):
    values = {"target": "uniforms", "w": [3.0], "particles": {"n": 4000, "steps": 60}}
    with Run.open(tmp_path / "a", asked := config.build(values)) as run:
        (exact,) = sweep.sweep(asked, run)
    values |= {"solvers": ["heun", "dpmpp_2m"]}
    with Run.open(tmp_path / "b", asked := config.build(values)) as run:
        sampled = sweep.sweep(asked, run)
    for row in sampled:
        # five standard errors: error probability below 1e-6 a row; the grid adds under 1e-3
        assert abs(row["mean"] - exact["mean"]) < 5 * row["mean_se"] + 1e-3
        assert row["sd"] == pytest.approx(exact["sd"], rel=0.1)
        assert row["off_support"] > 0  # an artefact of stopping at sigma_min ...
        assert row["off_support_denoised"] == 0  # ... that one denoise repairs
        assert row["overshoot"] == pytest.approx(0.0768, abs=0.05)
    assert exact["off_support"] == 0


def test_sweep_in_more_dimensions_has_the_laws_of_the_peers(tmp_path):
    values = {
        "target": "gaussians",
        "params": {"mean": [1.0, 0.0]},
        "w": [3.0],
        "laws": [{"name": n} for n in ("constant", "interval", "autoguidance", "cfg_plus_plus")],
        "particles": {"n": 2000, "steps": 48},
    }
    with Run.open(tmp_path, asked := config.build(values)) as run:
        rows = {r["law"]: r for r in sweep.sweep(asked, run)}
    assert rows["constant"]["mean"] == pytest.approx(2.348, abs=0.08)
    assert rows["autoguidance"]["mean"] == pytest.approx(1.0, abs=0.08)
    assert rows["interval"]["nfe"] < rows["constant"]["nfe"]
    # CFG++ has its own step, whose strength per step is far above the constant law's
    assert rows["cfg_plus_plus"]["mean"] > 2 * rows["constant"]["mean"]


def test_sweep_again_computes_only_what_is_missing(tmp_path, monkeypatch):
    words = ("--target", "gaussians", "--w", "-1,0,3", "--out", tmp_path)
    assert _sweep(*words) == 0
    path = tmp_path / "rows.jsonl"
    whole = path.read_bytes()
    made = []
    original = sweep.exact.exact_row
    monkeypatch.setattr(sweep.exact, "exact_row", lambda t, p: made.append(p.w) or original(t, p))
    assert _sweep(*words) == 0
    assert made == []
    path.write_bytes(whole[:-20])
    assert _sweep(*words) == 0
    assert made == [3.0]
    assert path.read_bytes() == whole


REFUSED = {
    "unknown target": (("--target", "pears"), "pears"),
    "w not finite": (("--w", "1,inf"), "finite"),
    "w not a number": (("--w", "1,two"), "list of numbers"),
    "w doubled": (("--w", "1", "--w", "1"), "twice"),
    "empty grid": (("--w", ""), "empty"),
    "negative sd": (("--sd", "-1"), "sd -1"),
    "prior outside": (("--prior", "1.5"), "prior 1.5"),
    "low above high": (("--target", "uniforms", "--low", "3"), "low 3"),
    "parameter of another target": (("--target", "uniforms", "--sd", "1"), "sd"),
    "unknown law": (("--law", "wish"), "wish"),
    "unknown solver": (("--solver", "wish"), "wish"),
    "exact under another law": (("--law", "interval", "--solver", "exact"), "exact"),
    "w below -1": (("--w", "-2"), "-2"),
    "w between on a compact class": (("--target", "uniforms", "--w", "-0.5"), "-0.5"),
    "digit": (("--target", "digits", "--label", "12"), "12"),
    "no steps": (("--steps", "0"), "steps"),
    "unknown flag": (("--wish", "1"), "--wish"),
    "missing file": (("nowhere.toml",), "nowhere.toml"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_sweep_refuses_in_one_line_and_leaves_nothing(case, tmp_path, capsys):
    words, hint = REFUSED[case]
    assert _sweep(*words, "--out", tmp_path / "run") == 2
    said = capsys.readouterr()
    assert hint in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert said.err.startswith("assay: ")
    assert said.out == ""
    assert not (tmp_path / "run" / "config.json").exists()


def test_sweep_refuses_folders_it_cannot_use(tmp_path, capsys):
    assert _sweep("--w", "0", "--out", tmp_path / "run") == 0
    before = (tmp_path / "run" / "rows.jsonl").read_bytes()
    assert _sweep("--w", "0,1", "--out", tmp_path / "run") == 2
    assert "another configuration" in capsys.readouterr().err
    assert (tmp_path / "run" / "rows.jsonl").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    assert _sweep("--w", "0", "--out", tmp_path / "file") == 2
    assert "is a file" in capsys.readouterr().err
    assert _sweep("--w", "0") == 2
    assert "--out" in capsys.readouterr().err
    assert _sweep("--w", "0", "--out", "/proc/assay") == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_sweep_reads_toml_and_flags_override_it(tmp_path):
    (tmp_path / "a.toml").write_text(
        'target = "mixture"\nw = [0, 2]\n'
        "[params]\n"
        'cond = [{weight = 1, kind = "gaussian", mean = 2, cov = 0.25}]\n'
        'uncond = [{weight = 1, kind = "gaussian", mean = 2, cov = 0.25},\n'
        '          {weight = 3, kind = "gaussian", mean = -1, cov = 2}]\n'
    )
    assert _sweep(tmp_path / "a.toml", "--w", "1", "--out", tmp_path / "run") == 0
    run = assay.open(tmp_path / "run")
    assert run.config["w"] == [1.0]
    assert run.rows[0]["mean"] > 2
    (tmp_path / "b.toml").write_text("wish = 1\n")
    assert _sweep(tmp_path / "b.toml", "--out", tmp_path / "other") == 2
    (tmp_path / "c.toml").write_text("w = [\n")
    assert _sweep(tmp_path / "c.toml", "--out", tmp_path / "other") == 2


def test_python_m_assay_is_assay(tmp_path):
    words = ["guidance", "sweep", "--w", "0", "--out", str(tmp_path / "run"), "--json"]
    done = subprocess.run([sys.executable, "-m", "assay", *words], capture_output=True, text=True)
    assert done.returncode == 0
    assert json.loads(done.stdout)["mean"] == pytest.approx(1.0)


@pytest.mark.slow
def test_sweep_survives_kill_at_random_moments(tmp_path):
    rng = random.Random(11)
    grid = ",".join(f"{w:g}" for w in np.linspace(0, 12, 25))
    words = [
        "guidance",
        "sweep",
        "--target",
        "uniforms",
        "--w",
        grid,
        "--out",
        str(tmp_path / "r"),
    ]
    command = [sys.executable, "-m", "assay", *words]
    for _ in range(8):
        job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.5, 4.0))
        job.send_signal(signal.SIGKILL)
        job.wait()
    subprocess.run(command, check=True, capture_output=True)
    run = assay.open(tmp_path / "r")
    assert [r["w"] for r in run.rows] == [float(w) for w in grid.split(",")]
    assert run.array_names() == sorted(f"density.{r['key']}" for r in run.rows)
    subprocess.run([*command[:-1], str(tmp_path / "s")], check=True, capture_output=True)
    assert assay.open(tmp_path / "s").rows == run.rows
