"""Runs as the laboratory writes them today: the page finds its columns and arrays."""

import pytest

from assay.guidance import (
    config,
    dynamics,
    error,
    peers,
    rates,
    samplers,
    sweep,
    targets,
)
from assay.report import pages
from assay.report.sections import error_said, sentences
from assay.runs import Run


def sweep_of(**given):
    return config.build({"w": [0, 3], "particles": {"n": 128, "steps": 8}, **given})


def drawn(run):
    """Titles of all figures and pictures of a Run's sections."""
    blocks = [b for s in pages._module(run).sections(run) for b in s.blocks]
    return [i.title for b in blocks if b.kind == "gallery" for i in b.items]


def made(folder, asked, fill):
    with Run.open(folder, asked) as run:
        fill(run)
    return Run.read(folder)


@pytest.mark.parametrize("target", ["gaussians", pytest.param("uniforms", marks=pytest.mark.slow)])
def test_page_draws_a_sweep(target, tmp_path):
    asked = sweep_of(target=target, solvers=["exact", "heun"])
    run = made(tmp_path, asked, lambda run: sweep.sweep(asked, run))
    assert drawn(run) == [
        "w = 0", "w = 3", "Mean", "Spread that is left", "W1 to conditional", "W1 to tilted",
        "Off the class", "w = 0", "w = 3",
    ]  # fmt: skip
    claims = [f.claim for f in pages._module(run).findings(run)]
    assert claims[0] == "How hard may it be guided?"


def test_page_draws_digits(tmp_path):
    asked = sweep_of(target="digits", params={"label": 3})
    run = made(tmp_path, asked, lambda run: sweep.sweep(asked, run))
    assert drawn(run) == [
        "w = 0", "w = 3", "Drift", "Diversity", "Coverage", "Precision", "Off the class",
        "w = 0", "w = 3",
    ]  # fmt: skip
    assert len(pages._module(run).findings(run)[-1].sentences) == 3


def test_page_draws_dynamics(tmp_path):
    names = ("gaussians", "uniforms")

    def fill(run):
        for name in names:
            run.fill(name, lambda n=name: dynamics.trajectory_rows(targets.build(n), [0.0, 7.0]))

    run = made(tmp_path, {"kind": "guidance.dynamics"}, fill)
    assert drawn(run) == [
        "w = 0", "w = 7", "w = 0", "w = 7", "Overshoot of the mean", "Paths that leave and return",
        "Paths that only rise",
    ]  # fmt: skip


def test_page_draws_rates(tmp_path):
    def fill(run):
        for name in ("gaussians", "uniforms"):
            run.fill(name, lambda n=name: rates.rate_rows(targets.build(n), [1.0, 3.0], fit=False))

    run = made(tmp_path, {"kind": "guidance.rates"}, fill)
    assert drawn(run) == [
        "Median over √w", "Share beyond c·√w·sd", "Density ratio in the tail",
        "Median: gap to the far edge", "Share of samples at the far edge",
        "Density ratio in the tail",
    ]  # fmt: skip


def test_page_draws_errors(tmp_path):
    target, w = targets.uniforms(), [1.0, 7.0]

    def fill(run):
        run.fill("map", lambda: error.error_rows(target, w, [0.01, 0.1], ["bias", "stop"]))
        run.fill("amplification", lambda: (error.amplification(target, w), {}))
        run.fill("start", lambda: (error.start_rows(target, w, [10.0]), {}))

    run = made(tmp_path, {"kind": "guidance.error"}, fill)
    assert drawn(run) == [
        "Constant bias", "Stopped early", "Constant bias", "Stopped early",
        "Amplification as the solver leaves them", "After one final denoise",
    ]  # fmt: skip
    claims = [f.claim for f in pages._module(run).findings(run)]
    assert claims == [error_said.CLAIM, error_said.AMPLIFIED, sentences.ARTEFACT]


def test_page_draws_samplers(tmp_path):
    def fill(run):
        for name in samplers.SAMPLERS:
            row = samplers.sampler_row(name, 1, 3.0, n=400, steps=30)
            run.append({"key": name.replace(" ", "-"), **row})

    run = made(tmp_path, {"kind": "guidance.samplers"}, fill)
    assert drawn(run) == ["1-D, w = 3", "1-D, w = 3"]
    assert [f.claim for f in pages._module(run).findings(run)]


def test_page_draws_peers(tmp_path):
    simulation = config.Simulation(n=128, steps=8)

    def fill(run):
        rows = peers.peer_rows("gaussians", 2, 3.0, simulation=simulation)
        run.fill("gaussians-d2", lambda: (rows, {}))

    run = made(tmp_path, {"kind": "guidance.peers"}, fill)
    assert drawn(run) == ["Gaussians, 2-D"]
    assert [f.claim for f in pages._module(run).findings(run)]
