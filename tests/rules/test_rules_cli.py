"""``assay rules``: what it writes, prints and refuses."""

import json
import subprocess
import sys

import numpy as np
import pytest

from assay import cli
from assay.rules import cli as rules_cli
from assay.rules import datasets, genraven


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    return tmp_path


def run(capsys, *tokens):
    code = cli.main(["rules", *map(str, tokens)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_generate_writes_the_data_set_it_names(capsys, here, monkeypatch):
    monkeypatch.setattr(datasets, "VALIDATION", 3)
    code, out, err = run(
        capsys, "generate", "--samples-per-rule", 4, "--split", 2, "--seed", 9, "--out", "set"
    )
    assert (code, err) == (0, "")
    made = datasets.Dataset.read(here / "set")
    about = {k: made.about[k] for k in ("samples_per_rule", "split", "seed", "format")}
    assert about == {"samples_per_rule": 4, "split": 2, "seed": 9, "format": "npy"}
    assert made.fingerprint in out.replace("\n", "")
    made.verify()
    code, _, err = run(capsys, "generate", "--samples-per-rule", 4, "--out", "set")
    assert code == 2
    assert "another data set" in err


def test_generate_parquet(capsys, here, monkeypatch):
    monkeypatch.setattr(datasets, "VALIDATION", 3)
    code, _, _ = run(
        capsys, "generate", "--samples-per-rule", 2, "--format", "parquet", "--out", "set"
    )
    assert code == 0
    assert datasets.load_panels(here / "set" / "train.parquet").shape == (70, 3, 3, 9, 3)


def test_check_json_is_the_summary(capsys, here):
    x, _ = genraven.generate(200, seed=3)
    x[:50] = np.random.default_rng(0).integers(-1, 7, x[:50].shape)
    np.save(here / "x.npy", x)
    code, out, err = run(capsys, "check", "x.npy", "--json")
    assert (code, err) == (0, "")
    result = json.loads(out)
    summary = genraven.summary(genraven.check(x))
    assert result["file"] == "x.npy"
    assert result["cells"] == datasets.cell_counts(x)
    assert result["cells"]["half_empty"] > 0
    for key in ("n", "c3", "c2", "any_valid", "per_rule"):
        assert result[key] == summary[key]


def test_check_table_shows_measures_rules_and_cells(capsys, here):
    x, _ = genraven.generate(100, [15], seed=3)
    x = x.astype(np.int16)
    x[0, 0, 0, 0] = 99
    (here / "x.json").write_text(json.dumps(x.tolist()))
    code, out, _ = run(capsys, "check", "x.json")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines() if line.strip()}
    assert sum(line.split()[:1] == ["C3"] for line in out.splitlines()) == 1
    share = genraven.summary(genraven.check(x))["c3"]
    assert f"{share['estimate']:.4f}" in lines["C3"]
    assert f"{share['low']:.4f} to {share['high']:.4f}" in lines["C3"]
    assert "size arithmetic +" in lines["15"]
    assert len([key for key in lines if key.isdigit()]) == 40
    assert "8,100 cells, 0 of them half empty (read as empty), 1 with a value out of range" in out


def test_check_of_no_samples_has_no_estimate(capsys, here):
    np.save(here / "x.npy", np.zeros((0, 3, 3, 9, 3), np.int8))
    code, out, _ = run(capsys, "check", "x.npy", "--json")
    assert code == 0
    assert json.loads(out)["c3"]["estimate"] is None
    code, out, _ = run(capsys, "check", "x.npy")
    assert code == 0
    assert "none" in out


def test_check_in_chunks_is_check(here, monkeypatch):
    x, _ = genraven.generate(50, seed=1)
    monkeypatch.setattr(rules_cli, "_CHUNK", 7)
    np.testing.assert_array_equal(rules_cli._checked(x), genraven.check(x))


@pytest.mark.parametrize("name", ["15", "size arithmetic +", "SIZE_arithmetic_+"])
def test_show_draws_a_rule_by_number_or_name(capsys, here, name):
    code, out, _ = run(capsys, "show", name, "--n", 2, "--columns", 1)
    assert (code, out.strip()) == (0, "rule-15.png")
    assert (here / "rule-15.png").read_bytes().startswith(b"\x89PNG")


def test_every_rule_has_its_name(here):
    for rule in genraven.RULES:
        assert rules_cli._rule(rule.name) == rules_cli._rule(str(rule.id)) == rule.id
    assert rules_cli._rule("size-xor") == 17


def test_show_draws_the_first_samples_of_a_file(capsys, here):
    x, y = genraven.generate(5, seed=3)
    np.save(here / "some.npy", x)
    code, out, _ = run(capsys, "show", "some.npy", "--n", 3, "--out", "pic.svg")
    assert (code, out.strip()) == (0, "pic.svg")
    text = (here / "pic.svg").read_text()
    assert ">some.npy</text>" in text
    for rule in y[:3]:
        assert f">{genraven.RULES[rule].name}</text>" in text
    assert text.count(" in all three rows</text>") == 3


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (["check", "absent.npy"], "No such file"),
        (["check", "float.npy"], "must be integers, got dtype float64"),
        (["check", "flat.npy"], "must have shape (n, 3, 3, 9, 3)"),
        (["check", "words.txt"], "unknown ending"),
        (["show", "nothing"], "neither a file nor a rule"),
        (["show", "40"], "neither a file nor a rule"),
        (["show", "absent.npy"], "No such file"),
        (["show", "3", "--n", "0"], "--n must be 1 or more"),
        (["show", "3", "--out", "a.jpg"], ".png or .svg"),
        (["generate", "--out", "set", "--split", "10"], "split must be 0 to 9"),
        (["generate", "--out", "set", "--samples-per-rule", "0"], "samples per rule"),
        (["generate", "--out", "float.npy"], "is a file"),
        (["generate", "--out", "set", "--format", "csv"], "csv"),
        (["generate"], "--out"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_two(capsys, here, tokens, words):
    np.save(here / "float.npy", np.zeros((1, 3, 3, 9, 3)))
    np.save(here / "flat.npy", np.zeros((2, 243), np.int8))
    (here / "words.txt").write_text("words")
    code, out, err = run(capsys, *tokens)
    assert (code, out) == (2, "")
    assert words in err
    assert err.startswith("assay: ")
    assert err.count("\n") == 1
    assert sorted(p.name for p in here.iterdir()) == ["flat.npy", "float.npy", "words.txt"]


def test_import_is_light():
    code = (
        "import sys, assay.rules.cli; "
        "heavy = {'numba', 'torch', 'numpy', 'scipy', 'pyarrow', 'PIL'} & set(sys.modules); "
        "sys.exit(str(heavy)) if heavy else None"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
