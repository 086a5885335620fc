"""Scaling studies: the list of jobs, resumed, failing and killed, each row once."""

import os
import signal
import subprocess
import sys
import time

import pytest

from assay import cli, runs
from assay.rules.scaling import config as configs
from assay.rules.scaling import executors, probe, study, work

STUDY = """
per_rule = [5, "stream"]
seeds = [0, 1]
steps = 6
probes = 2
probe_n = 16
save_every = 2
[[models]]
name = "odd"
recipe = "settoken-tiny"
fit = {batch = 8}
[evaluate]
n = 20
protocols = ["unconditional", "copies", "completion"]
"""


def written(folder, text=STUDY):
    path = folder / "study.toml"
    path.write_text(text, encoding="utf-8")
    return path


class Here:
    """Carries jobs out in this process: what every executor must come to."""

    workers = 1

    def __init__(self, refuse=()):
        self.refuse, self.started = refuse, []

    def start(self, out, key):
        self.started.append(key)
        if key not in self.refuse:
            executors._work(str(out), key)
        return self

    def ended(self):
        return True

    def failure(self):
        return "the machine caught fire"

    def close(self):
        pass


def test_jobs_are_every_combination_with_their_own_seed_and_data(tmp_path):
    config = configs.read(written(tmp_path))
    jobs = configs.jobs(config)
    assert [job.key for job in jobs] == [
        f"odd.n{n}.own.seed{seed}" for n in (5, "stream") for seed in (0, 1)
    ]
    first = jobs[1].recipe
    assert (first.seed, first.fit.seed, first.data.seed, first.data.per_rule) == (1, 1, 1, 5)
    assert jobs[2].recipe.data.per_rule is None
    assert first.fit.batch == 8
    assert first.fit.n_steps == 6


def test_forty_rule_sets_are_the_splits(tmp_path):
    text = STUDY.replace("steps = 6", 'steps = 6\nrule_sets = ["mini", "split3"]')
    jobs = configs.jobs(configs.read(written(tmp_path, text)))
    assert jobs[0].recipe.data.held_out == (34, 37)
    assert jobs[1].recipe.data.held_out == (3, 10, 29, 31, 37)
    assert len(jobs[1].recipe.data.rules) == 35


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("steps = 6", "steps = 6\nminutes = 2", "steps and minutes"),
        ("seeds = [0, 1]", "seeds = [0, 0]", "given twice"),
        ("per_rule = [5", "per_rule = [0", "too small"),
        ('recipe = "settoken-tiny"', 'recipe = "nothing"', "nothing"),
        ("steps = 6", "stpes = 6", "stpes"),
        ("fit = {batch = 8}", "fit = {batsh = 8}", "batsh"),
        ("steps = 6", 'steps = 6\nrule_sets = ["split12"]', "split12"),
        ("steps = 6", "steps = ", "is not TOML"),
    ],
)
def test_studies_that_cannot_be_are_refused_in_one_line(tmp_path, capsys, old, new, said):
    path = written(tmp_path, STUDY.replace(old, new))
    assert cli.main(["rules", "scale", str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_plan_lists_the_jobs(tmp_path, capsys):
    path = written(tmp_path)
    assert cli.main(["rules", "scale", str(path), "--plan", "--out", str(tmp_path / "o")]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 4


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A study of which one job failed at first."""
    folder = tmp_path_factory.mktemp("study")
    config = configs.read(written(folder))
    first, second = Here(refuse={"odd.n5.own.seed1"}), Here()
    outcome = study.run(folder / "out", config, lambda: first)
    assert outcome.failed == {"odd.n5.own.seed1": "the machine caught fire"}
    assert outcome.done == 3
    assert study.run(folder / "out", config, lambda: second).done == 4
    assert second.started == ["odd.n5.own.seed1"]
    return folder / "out", config


def test_rows_are_whole_and_failures_are_kept(finished):
    out, config = finished
    rows = runs.Run.read(out).rows
    done = [row for row in rows if row["status"] == "done"]
    assert sorted(row["key"] for row in done) == sorted(j.key for j in configs.jobs(config))
    assert [row["job"] for row in rows if row["status"] == "failed"] == ["odd.n5.own.seed1"]
    for row in done:
        assert row["c3_n"] == 20
        assert row["samples_seen"] == 48
        assert row["copies_row_n"] == row["natural_row_n"] == 60
        assert [p["step"] for p in row["probes"]] == [1, 6]


def test_nothing_is_done_twice(finished):
    def never():
        raise AssertionError("nothing is left to do")

    out, config = finished
    before = (out / "rows.jsonl").read_bytes()
    assert study.run(out, config, never).done == 4
    assert (out / "rows.jsonl").read_bytes() == before


def test_probes_leave_the_training_as_it_is(finished, tmp_path):
    from safetensors.torch import load_file

    from assay.rules import train

    out, config = finished
    job = configs.jobs(config)[0]
    train.train(job.recipe, tmp_path / "plain")
    plain = load_file(tmp_path / "plain" / train.CHECKPOINT)
    probed = load_file(work.folder(out, job.key) / train.CHECKPOINT)
    assert all((plain[name] == probed[name]).all() for name in plain)


def test_moments_are_in_order_and_end_with_the_last_step():
    assert probe.moments(600, 0) == ()
    assert probe.moments(600, 1) == (600,)
    found = probe.moments(600, 8)
    assert found[0] == 12
    assert found[-1] == 600
    assert list(found) == sorted(set(found))


@pytest.mark.slow
def test_a_killed_study_goes_on_without_losing_or_doubling_a_row(tmp_path):
    path, out = written(tmp_path), tmp_path / "out"
    command = [sys.executable, "-m", "assay", "rules", "scale", str(path), "--out", str(out)]
    for seconds in (9.0, 14.0, 21.0):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        time.sleep(seconds)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(2)  # its jobs end by themselves
    assert subprocess.run(command, check=False).returncode == 0
    keys = [row["key"] for row in runs.Run.read(out).rows]
    assert sorted(keys) == sorted(job.key for job in configs.jobs(configs.read(path)))


@pytest.mark.slow
def test_submitit_carries_out_the_same_list(tmp_path):
    pytest.importorskip("submitit")
    config, out = configs.read(written(tmp_path)), tmp_path / "out"
    made = executors.Slurm(tmp_path / "submitit", 2, cluster="local", timeout_min=10)
    assert study.run(out, config, lambda: made).done == 4


@pytest.mark.slow
def test_a_ray_cluster_of_two_nodes_carries_out_the_same_list(tmp_path):
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        config, out = configs.read(written(tmp_path)), tmp_path / "out"
        assert study.run(out, config, lambda: executors.Ray(2, cluster.address)).done == 4
    finally:
        cluster.shutdown()
