"""A Run keeps what it was given, refuses what would lose something, and survives kill -9."""

import json
import math
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import assay
from assay import runs

CONFIG = {"kind": "test", "w": [0.0, 1.0], "target": "gaussians"}


def test_run_round_trip(tmp_path):
    with runs.Run.open(tmp_path / "run", CONFIG) as run:
        run.save_array("a", np.arange(6.0).reshape(2, 3))
        row = run.append({"key": "a", "x": np.float64(2.5), "n": np.int64(3), "bad": math.nan})
    assert row == {"key": "a", "x": 2.5, "n": 3, "bad": None}
    again = assay.open(tmp_path / "run")
    assert again.config == CONFIG
    assert again.rows == [row]
    assert again.done("a")
    assert again.frame()["x"].tolist() == [2.5]
    np.testing.assert_array_equal(again.array("a"), np.arange(6.0).reshape(2, 3))
    assert again.array_names() == ["a"]
    assert "numpy" in again.env["versions"]
    assert "NaN" not in (tmp_path / "run" / "rows.jsonl").read_text()


def test_run_drops_an_unterminated_last_line_and_only_that(tmp_path):
    with runs.Run.open(tmp_path, CONFIG) as run:
        run.append({"key": "a"})
        run.append({"key": "b"})
    path = tmp_path / "rows.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    assert [r["key"] for r in assay.open(tmp_path).rows] == ["a"]
    with runs.Run.open(tmp_path, CONFIG) as run:
        assert not run.done("b")
        run.append({"key": "b", "x": 1})
    assert [r["key"] for r in assay.open(tmp_path).rows] == ["a", "b"]


def test_run_refuses_a_corrupt_earlier_line(tmp_path):
    with runs.Run.open(tmp_path, CONFIG) as run:
        run.append({"key": "a"})
        run.append({"key": "b"})
    path = tmp_path / "rows.jsonl"
    before = b"{oops\n" + path.read_bytes()
    path.write_bytes(before)
    with pytest.raises(ValueError, match="line 1 is corrupt"):
        runs.Run.open(tmp_path, CONFIG)
    assert path.read_bytes() == before
    path.write_bytes(b'{"key":"a"}\n{"key":"a"}\n')
    with pytest.raises(ValueError, match="repeats row 'a'"):
        assay.open(tmp_path)


def test_run_refuses_another_config_and_changes_nothing(tmp_path):
    with runs.Run.open(tmp_path, CONFIG) as run:
        run.append({"key": "a"})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    with pytest.raises(ValueError, match=r"another configuration \(w differ"):
        runs.Run.open(tmp_path, CONFIG | {"w": [2.0]})
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before


def test_run_refuses_files_strangers_and_unreadable_configs(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="is a file"):
        runs.Run.open(tmp_path / "file", CONFIG)
    with pytest.raises(ValueError, match="is a file"):
        runs.Run.open(tmp_path / "file" / "below", CONFIG)
    with pytest.raises(ValueError, match="holds other files"):
        runs.Run.open(tmp_path, CONFIG)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read"):
        runs.Run.open(tmp_path / "run", CONFIG)
    with pytest.raises(ValueError, match="no such folder"):
        assay.open(tmp_path / "none")
    assert (tmp_path / "file").read_text() == "mine"


def test_run_computes_each_row_once_and_completes_a_broken_group(tmp_path):
    calls = []

    def one():
        calls.append("one")
        return {"x": 1}, {"picture": np.ones(3)}

    def three():
        calls.append("three")
        return [{"key": f"g/{i}", "x": i} for i in range(3)], {"map": np.eye(2)}

    with runs.Run.open(tmp_path, CONFIG) as run:
        assert run.compute("a", one) == run.compute("a", one) == {"key": "a", "x": 1}
        assert [r["x"] for r in run.fill("g", three)] == [0, 1, 2]
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    with runs.Run.open(tmp_path, CONFIG) as run:
        assert [r["x"] for r in run.fill("g", three)] == [0, 1, 2]
        assert [r["x"] for r in run.fill("g", three)] == [0, 1, 2]
        assert run.array_names() == ["map.g", "picture.a"]
    assert calls == ["one", "three", "three"]


@pytest.mark.parametrize("key", ["", "../a", "/a", "a b", ".hidden", None, 3, "x" * 201])
def test_run_refuses_keys_that_are_no_file_names(tmp_path, key):
    with runs.Run.open(tmp_path, CONFIG) as run:
        with pytest.raises(ValueError, match="key"):
            run.append({"key": key})
        run.append({"key": "good"})
        with pytest.raises(ValueError, match="already"):
            run.append({"key": "good"})


def test_run_has_one_writer(tmp_path):
    with runs.Run.open(tmp_path, CONFIG):
        with pytest.raises(ValueError, match="another process is writing"):
            runs.Run.open(tmp_path, CONFIG)
        assert assay.open(tmp_path).rows == []
    runs.Run.open(tmp_path, CONFIG).close()


def test_run_draws_itself_and_escapes(tmp_path):
    with runs.Run.open(tmp_path, {"kind": "<script>"}) as run:
        run.append({"key": "a", "name": "<b>x</b>"})
        page = run._repr_html_()
    assert "<script>" not in page
    assert "<b>x" not in page


def test_find_names_runs_in_subfolders(tmp_path):
    for name in ("b", "a"):
        runs.Run.open(tmp_path / name, {"kind": name}).close()
    assert [r.config["kind"] for r in runs.find(tmp_path)] == ["a", "b"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no Run"):
        runs.find(tmp_path / "empty")


WRITER = """
import sys, numpy as np
from assay.runs import Run
with Run.open(sys.argv[1], {"kind": "kill"}) as run:
    for i in range(400):
        if not run.done(f"k{i}"):
            run.save_array(f"k{i}", np.full(50, i))
            run.append({"key": f"k{i}", "x": i, "pad": "p" * 500})
"""


def test_run_loses_no_row_to_kill_at_random_moments(tmp_path):
    rng = random.Random(7)
    for _ in range(6):
        job = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path / "run")])
        time.sleep(rng.uniform(0.05, 0.35))
        job.send_signal(signal.SIGKILL)
        job.wait()
    subprocess.run([sys.executable, "-c", WRITER, str(tmp_path / "run")], check=True)
    rows = [json.loads(s) for s in (tmp_path / "run" / "rows.jsonl").read_text().splitlines()]
    assert sorted(r["x"] for r in rows) == list(range(400))
    run = assay.open(tmp_path / "run")
    assert all(run.array(f"k{i}")[0] == i for i in range(400))
