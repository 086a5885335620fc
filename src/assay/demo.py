"""``assay demo``: both laboratories end to end, and one report that a person can read.

Each study is a Run in its own folder, so a demo that was stopped goes on where it was. Studies
run side by side in processes of their own, one thread each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assay import progress

W = (0.0, 1.0, 3.0, 7.0, 15.0)
TEXTBOOK = ("gaussians", "uniforms")


@dataclass(frozen=True)
class Study:
    """A Run of the demo: its folder, what fills it, its configuration; cost in rough seconds."""

    name: str
    fill: Callable[[Any, dict[str, Any]], None]
    config: dict[str, Any] = field(default_factory=dict)
    cost: float = 5.0


def demo(*, out: Path = Path("out/demo"), workers: int | None = None) -> None:
    """Run both laboratories on textbook targets and on real digits, and write one HTML report.

    Parameters
    ----------
    out
        Folder of the Runs and of report.html (created; resumed where it was stopped).
    workers
        Processes side by side [default: one a processor].
    """
    from assay.report import pages
    from assay.runs import Run

    for study in studies():  # a folder that cannot be used is refused before anything is computed
        Run.open(out / study.name, study.config).close()
    _run_all(out, workers or len(os.sched_getaffinity(0)))
    print(f"report: {pages.write_report(out)}")


def _run_all(out: Path, workers: int) -> None:
    cost = {s.name: s.cost for s in studies()}
    names = sorted(cost, key=lambda name: -cost[name])
    with (
        progress.bar("assay demo", sum(cost.values())) as advance,
        ProcessPoolExecutor(workers, initializer=_single_thread) as pool,
    ):
        waiting = {pool.submit(run_study, name, out): name for name in names}
        for done in as_completed(waiting):
            done.result()
            advance(cost[waiting[done]], waiting[done])


def _single_thread() -> None:
    """One thread a process: the studies fill the processors side by side."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    import threadpoolctl

    threadpoolctl.threadpool_limits(1)


def run_study(name: str, out: Path) -> None:
    """Compute what the study's Run lacks."""
    from assay.runs import Run

    study = next(s for s in studies() if s.name == name)
    with Run.open(out / name, study.config) as run:
        study.fill(run, study.config)


def _sweep(run: Any, config: dict[str, Any]) -> None:
    from assay.guidance import config as configs
    from assay.guidance import sweep

    sweep.sweep(configs.build(config), run)


def _dynamics(run: Any, config: dict[str, Any]) -> None:
    from assay.guidance import dynamics, targets

    for name in config["targets"]:
        target = targets.build(name)
        run.fill(name, lambda t=target: dynamics.trajectory_rows(t, config["w"]))


def _error(run: Any, config: dict[str, Any]) -> None:
    from assay.guidance import error, targets

    for name in config["targets"]:
        target = targets.build(name)
        run.fill(name, lambda t=target: error.error_rows(t))
        run.fill(f"start-{name}", lambda t=target: (error.start_rows(t, config["w"]), {}))
        for kind in ("bias", "field"):
            run.fill(
                f"amplification-{name}-{kind}",
                lambda t=target, k=kind: (error.amplification(t, config["w"], k), {}),
            )


def _rates(run: Any, config: dict[str, Any]) -> None:
    from assay.guidance import rates, targets

    for name in config["targets"]:
        run.fill(name, lambda n=name: rates.rate_rows(targets.build(n)))


def _rules(run: Any, config: dict[str, Any]) -> None:
    from assay.rules import examples

    examples.fill(run, config)


def _models(run: Any, config: dict[str, Any]) -> None:
    from assay.rules import showcase

    showcase.fill(run, config)


def _samplers(run: Any, config: dict[str, Any]) -> None:
    from assay.guidance import samplers

    for d in config["d"]:
        for w in config["w"]:
            for sampler in samplers.SAMPLERS:
                key = f"d{d}-w{w:g}-{sampler.replace(' ', '-')}"
                size = {k: config[k] for k in ("n", "steps", "seed")}
                run.compute(
                    key,
                    lambda s=sampler, d=d, w=w, z=size: (samplers.sampler_row(s, d, w, **z), {}),
                )


def _image_study(run: Any, config: dict[str, Any]) -> None:
    from assay.guidance.images import study as image_study

    asked = image_study.StudyConfig.model_validate(config)
    for _ in image_study.fill(run, asked):
        pass


def _peers(run: Any, config: dict[str, Any]) -> None:
    from assay.guidance import peers

    for name in config["targets"]:
        for d in config["d"]:
            run.fill(
                f"{name}-d{d}",
                lambda n=name, d=d: (peers.peer_rows(n, d, config["w"]), {}),
            )


def _choosing(run: Any, config: dict[str, Any]) -> None:
    from assay.guidance.choosing import study as choosing_study

    choosing_study.fill(run, config)


def _guided_rules(run: Any, config: dict[str, Any]) -> None:
    from assay.studies import guided_rules

    guided_rules.fill(run, config)


def _guided_rules_config() -> dict[str, Any]:
    from assay.studies import guided_config

    return guided_config.demo().model_dump(mode="json")


def _choosing_config() -> dict[str, Any]:
    from assay.guidance.choosing import study as choosing_study

    return choosing_study.demo_config()


def _sweep_config(target: str, **more: Any) -> dict[str, Any]:
    from assay.guidance import config

    return config.build({"target": target, "w": list(W), **more}).model_dump(mode="json")


def studies() -> tuple[Study, ...]:
    """What the demo computes."""
    digits = {"params": {"label": 3}, "particles": {"n": 768, "steps": 40}}
    both = list(TEXTBOOK)
    return (
        Study("gaussians", _sweep, _sweep_config("gaussians"), 3),
        Study("uniforms", _sweep, _sweep_config("uniforms"), 15),
        Study("digits", _sweep, _sweep_config("digits", **digits), 25),
        Study("dynamics", _dynamics, _config("dynamics", targets=both, w=list(W)), 5),
        Study("rates", _rates, _config("rates", targets=both), 10),
        Study("error", _error, _config("error", targets=["uniforms", "gaussians"], w=list(W)), 20),
        Study(
            "samplers", _samplers,
            _config("samplers", d=[1, 8], w=[1.0, 3.0, 7.0], n=4000, steps=200, seed=0), 20,
        ),
        Study("peers", _peers, _config("peers", targets=both, d=[2, 16], w=3.0), 15),
        Study("choosing", _choosing, _choosing_config(), 8),
        Study("learned-digits", _image_study, _image_config(), 12),
        Study("rules", _rules, _rules_config(), 5),
        Study("guided-rules", _guided_rules, _guided_rules_config(), 12),
        *_shipped(),
    )  # fmt: skip


def _shipped() -> tuple[Study, ...]:
    """The models that are shipped with this version, where there are any."""
    from assay.rules import showcase

    config = showcase.config()
    n = len(config["models"])
    return (Study("models", _models, config, 20 * n),) if n else ()


def _image_config() -> dict[str, Any]:
    from assay.guidance.images import study as image_study

    return image_study.demo().model_dump(mode="json")


def _rules_config() -> dict[str, Any]:
    from assay.rules import examples

    return examples.CONFIG


def _config(kind: str, **values: Any) -> dict[str, Any]:
    return {"kind": f"guidance.{kind}", **values}
