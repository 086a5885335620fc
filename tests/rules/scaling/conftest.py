"""A made-up study whose thresholds and first times are known."""

import json

import numpy as np
import pytest

from assay.core.intervals import wilson
from assay.rules.scaling import fitted
from assay.runs import Run

SIZES, SEEDS, N_PROBE = (25, 100, 400, 1600, 6400), (0, 1), 256
KINDS = {"number constant": 3000.0, "number progression -1": 6000.0, "number progression +1":
         6000.0, "position AND": 30_000.0}  # fmt: skip
MIDDLES = {"gpt2-tiny": 200.0, "sit-tiny": 900.0}
SAMPLES = np.geomspace(1000, 64_000, 10).round()


def share(name, value, n):
    k = round(value * n)
    low, high = wilson(k, n)
    return {name: k / n, f"{name}_low": low, f"{name}_high": high, f"{name}_n": n}


def tau_mem(model, per_rule):
    """Copies appear in proportion to the data: at 64 times its size, or 20 for gpt2."""
    return per_rule * (20.0 if model.startswith("gpt2") else 64.0)


def probe(model, per_rule, samples):
    copied = samples >= tau_mem(model, per_rule)
    rules = {name: 0.25 * (samples >= tau) for name, tau in KINDS.items()}
    gap = max(0.0, np.log(samples / tau_mem(model, per_rule)))
    row = {
        "key": f"probe-{samples:07.0f}",
        "step": int(samples // 10),
        "samples": int(samples),
        "n": N_PROBE,
        "weights": "raw",
        "rules": rules,
        "half_empty": 0.1,
        "train_loss": 1.0,
        "validation_loss": 3 - np.log10(samples) / 3 + gap,
        "gap": gap,
    }
    row |= share("c3", sum(rules.values()), N_PROBE) | share("any_valid", 0.7, 3 * N_PROBE)
    row |= share("completion", 0.8 * (samples > 8000), N_PROBE)
    for level, high in (("sample", 0.5), ("row", 0.6), ("panel", 0.9)):
        row |= share(f"copies_{level}", high if copied else 0.01, N_PROBE)
        row |= share(f"natural_{level}", 0.01, N_PROBE)
    return row


def job(model, per_rule, seed, n=2000):
    p = 0.98 / (1 + (MIDDLES.get(model, 200.0) / per_rule) ** 2)
    rng = np.random.default_rng([seed, per_rule])
    draws = {
        name: rng.binomial(n, p * top) / n
        for name, top in (
            ("c3", 1.0),
            ("novel_c3", 0.97),
            ("completion_trained", 0.96),
            ("completion_held_out", 0.1),
            ("completion_all", 0.8),
            ("any_valid", 1.0),
        )
    }
    row = {
        "key": f"{model}.n{per_rule}.mini.seed{seed}",
        "status": "done",
        "model": model,
        "recipe": model,
        "family": "autoregressive",
        "rule_set": "mini",
        "per_rule": per_rule,
        "n_rules": 8,
        "seed": seed,
        "weights": "raw",
        "n_steps": 6400,
        "batch": 10,
        "training_seconds": 90.0 + seed,
        "parameters": 1000,
        "samples_seen": 64_000,
        "training_flop": 1e12,
        "sampling_seconds": 4.0,
        "unconditional_nfe": 81,
        "completion_nfe": 9,
        "completion_samples_per_s": 400.0,
    }
    for name, value in draws.items():
        row |= share(name, value, n)
    for level in ("sample", "row", "set_row", "panel"):
        row |= share(f"copies_{level}", 0.5 / (1 + per_rule / 50), n)
        row |= share(f"natural_{level}", 0.01, n)
    row["probes"] = [probe(model, per_rule, s) for s in SAMPLES]
    return row  # fmt: skip


CONFIG = {"kind": "rules.scale", "recipes": list(MIDDLES), "models": [], "per_rule": list(SIZES),
          "rule_sets": ["mini"], "seeds": list(SEEDS), "steps": 6400, "minutes": None,
          "evaluate": {"kind": "rules.evaluate", "n": 2000}}  # fmt: skip


@pytest.fixture(scope="session")
def study_rows():
    """Rows of a whole study, small data first."""
    return [json.loads(json.dumps(job(model, size, seed)))
            for size in SIZES for seed in SEEDS for model in MIDDLES]  # fmt: skip


@pytest.fixture(scope="session")
def fitted_rows(study_rows):
    """Curves and thresholds of the whole study, with few draws of their bands."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitted, "_DRAWS", 5)
        return fitted.rows(study_rows, lambda n=1.0, note="": None)


@pytest.fixture
def write_study():
    """write_study(folder, rows) -> folder with the study's Run; rows there already stay."""

    def write(folder, rows):
        with Run.open(folder, CONFIG) as run:
            for row in rows:
                if not run.done(row["key"]):
                    run.append(row)
        return folder

    return write
