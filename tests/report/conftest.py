"""Small hand-made Runs of every kind, with round numbers whose page can be foretold."""

import numpy as np
import pytest

from assay.runs import Run

W = (0.0, 1.0, 3.0, 7.0)


def _weights(w):
    return {"w": w, "guidance_scale": 1 + w}


def sweep_rows():
    """An exact and a sampled group: the exact one leaves at w = 7, the other is an artefact."""
    off = dict(zip(W, (0.001, 0.002, 0.004, 0.05), strict=True))
    rows, arrays = [], {}
    for w in W:
        key = f"gaussians-constant-w{w:g}-exact"
        rows.append({
            "key": key, "target": "gaussians", "law": "constant", **_weights(w),
            "solver": "exact", "n": None, "seed": None, "coordinate": "x", "mean": 1 + w / 4,
            "sd": 1 / (1 + w / 5), "median": 1 + w / 4, "distance": "W1", "w1_to_cond": w / 4,
            "w1_to_tilted": w / 8, "tilted_mean": 1 + w / 8, "support": "HDR99.9",
            "off_support": off[w], "off_support_denoised": off[w], "class_odds": 2 + w / 2,
            "nfe": 100,
        })  # fmt: skip
        x = np.linspace(-2, 6, 40)
        tall = np.exp(-((x - 1 - w / 4) ** 2) / 2)
        arrays[f"density.{key}"] = np.stack([x, 9 * tall, np.full(40, np.nan), tall])
        key = f"gaussians-constant-w{w:g}-heun-s0"
        before = 0.4 if w == 7 else 0.0
        rows.append({
            **rows[-1], "key": key, "solver": "heun", "n": 400, "seed": 0, "steps": 8,
            "sigma_min": 0.002, "sigma_max": 80.0, "mean_se": 0.05, "tilted_mean": None,
            "off_support": before, "off_support_low": before * 0.9,
            "off_support_high": before * 1.1, "off_support_denoised": 0.0,
            "off_support_denoised_low": 0.0, "off_support_denoised_high": 0.0095,
            "overshoot": w / 9, "overshoot_sigma": 1.0,
        })  # fmt: skip
        sigmas = np.geomspace(80, 0.002, 30)
        arrays[f"bands.{key}"] = np.vstack([sigmas, *(np.full(30, q) for q in range(5))])
        arrays[f"samples.{key}"] = np.linspace(0, 2, 16).reshape(8, 2)
    return rows, arrays


def digits_rows():
    rows, arrays = [], {}
    for i, w in enumerate(W):
        key = f"digits-constant-w{w:g}-heun-s0"
        rows.append({
            "key": key, "target": "digits", "law": "constant", **_weights(w), "solver": "heun",
            "n": 400, "seed": 0, "steps": 8, "sigma_min": 0.002, "sigma_max": 80.0,
            "coordinate": "class direction", "mean": 2.0 + w, "sd": 0.5, "median": 2.0,
            "distance": "sliced W1, 64 directions", "w1_to_cond": 0.1,
            "w1_to_tilted": 0.25 if w else 0.05,
            "support": "HDR99.9", "off_support": 0.01 * i, "off_support_low": 0.009 * i,
            "off_support_high": 0.012 * i, "off_support_denoised": 0.02 * i,
            "off_support_denoised_low": 0.015 * i, "off_support_denoised_high": 0.03 * i,
            "class_odds": 60.0, "knn_distance": 2.5 + w / 10, "knn_train": 2.25,
            "precision": 0.8 - i / 5, "recall": 0.9, "density": 0.3, "coverage": 0.8 - i / 5,
            "vendi": 3.5 - i / 2, "n_data": 92, "nfe": 16,
        })  # fmt: skip
        arrays[f"samples.{key}"] = np.linspace(-3, 3, 5 * 64).reshape(5, 64)
        sigmas = np.geomspace(80, 0.002, 30)
        arrays[f"bands.{key}"] = np.vstack([sigmas, *(np.full(30, q) for q in range(5))])
    return rows, arrays


def dynamics_rows():
    rows, arrays = [], {}
    for name, edge in (("gaussians", None), ("uniforms", 2.0)):
        for w in W:
            rows.append({
                "key": f"dynamics/{name}/w={w:g}", "kind": "dynamics", "target": name, "dim": 1,
                **_weights(w), "method": "exact flow, quadrature", "n": None, "seed": None,
                "sigma_min": 0.002, "sigma_max": 80.0, "far_edge": edge, "peak": 1.5 + w / 4,
                "peak_sigma": 1.0, "final": 1.9, "returned": 0.1,
                "overshoot": None if edge is None else w / 4 - 0.5, "share_over": 0.5,
                "share_returned": None if edge is None else 0.5, "overshoot_per_path": 0.1,
                "window_low": 0.002, "window_high": 80.0, "least_slope_mean": -0.1,
                "least_slope_median": 0.1, "monotone_mean": True,
                "monotone_median": edge is None or w < 3, "monotone_share": 0.75,
                "slope_tolerance": 1e-6,
            })  # fmt: skip
        t = np.linspace(0, 1, 150)
        paths = np.stack([np.outer(t, np.arange(1, 6)) * (1 + w / 4) for w in W])
        arrays |= {
            f"w.{name}": np.array(W), f"sigmas.{name}": np.geomspace(80, 0.002, 150),
            f"levels.{name}": np.array([0.05, 0.25, 0.5, 0.75, 0.95]), f"bands.{name}": paths,
            f"mean.{name}": paths[:, :, 2], f"shown.{name}": paths[:, :, :2],
        }  # fmt: skip
    return rows, arrays


def rates_rows():
    rows = []
    for w in (1.0, 3.0, 7.0):
        for target, rate, label, values in (
            ("uniforms", "gap", "", {"log_gap": -w, "gap": float(np.exp(-w))}),
            (
                "uniforms",
                "layer",
                "/a",
                {"delta": 0.1, "delta_of": "fixed", "share": 1 - 1 / w / 9},
            ),
            ("gaussians", "median", "", {"median": w**0.5, "median_over_sqrt_w": 1 + 1 / w}),
            ("gaussians", "beyond", "/a", {"c": 0.5, "share": 1 - 1 / w / 9}),
            ("gaussians", "tail", "/a", {"u": 2.0, "x": 3.0, "ratio": 1.5, "limit": 2.0}),
            ("gaussians", "tail", "/b", {"u": 5.0, "x": 6.0, "ratio": 1.9, "limit": 2.0}),
        ):
            key = f"rate/{target}/{rate}/w={w:g}{label}"
            rows.append({"key": key, "kind": "rate", "rate": rate, "target": target,
                         **_weights(w), **values})  # fmt: skip
    for target, law in (("uniforms", "ln(gap) = -constant w"), ("gaussians", "constant sqrt(w)")):
        rows.append({
            "key": f"rate/{target}/fit", "kind": "rate", "rate": "fit", "target": target,
            "w": None, "guidance_scale": None, "law": law, "constant": 0.4355, "low": 0.4354,
            "high": 0.4356, "predicted": 0.4355, "holds": True, "w_low": 100.0, "w_high": 300.0,
            "n": 5, "later": 0.001, "reason": None,
        })  # fmt: skip
    arrays = {"curve_w.gaussians": np.geomspace(1, 1000, 20),
              "beyond.gaussians": np.linspace(1, 0, 20)[None]}  # fmt: skip
    return rows, arrays


def error_rows():
    rows = []
    for kind, reach in (("bias", 1.0), ("stop", 0.0)):
        for w in W:
            for size in (0.001, 0.01, 0.1):
                off = min(1.0, w * size * 2)
                rows.append({
                    "key": f"error/uniforms/{kind}/w={w:g}/size={size:g}", "kind": "error",
                    "error": kind, "target": "uniforms", "dim": 1, **_weights(w), "size": size,
                    "amount": size, "amount_name": "last sigma", "perturbed": "uncond",
                    "seed": 0, "sigma_min": 0.002, "sigma_max": 80.0, "method": "threshold u",
                    "n": None, "off_support_name": "support", "reason": None,
                    "off_support": off, "off_support_denoised": off * reach,
                    "off_support_plain_start": off,
                })  # fmt: skip
    for w in W:
        rows.append({
            "key": f"amplification/uniforms/bias/w={w:g}", "kind": "amplification",
            "error": "bias", "target": "uniforms", **_weights(w), "n": None,
            "amplification": 2 * w, "amplification_denoised": w, "amplification_se": None,
        })  # fmt: skip
        rows.append({
            "key": f"start/uniforms/w={w:g}", "kind": "start", "target": "uniforms",
            **_weights(w), "sigma_max": 80.0, "w1_plain": 0.03, "w1_means": 1e-4,
            "w1_unbiased": 5e-5,
        })  # fmt: skip
    return rows, {}


def samplers_rows():
    means = {"conditional": 1.0, "guided ODE": 2.3, "guided SDE": 1.9, "tilted": 1.51,
             "Feynman-Kac": 1.49}  # fmt: skip
    rows = [
        {"key": f"{name.replace(' ', '-')}-d{d}", "sampler": name, "target": "gaussians", "d": d,
         **_weights(3.0), "n": 1000, "steps": 100, "seed": 0, "nfe": 400, "islands": 20,
         "mean": mean, "mean_se": 0.02, "sd": 0.7, "sd_se": 0.02, "exact_mean": 1.5,
         "exact_sd": 0.75}
        for d in (1, 8) for name, mean in means.items()
    ]  # fmt: skip
    return rows, {}


def peers_rows():
    rows = []
    laws = (
        ("conditional", 1.0, 1.0),
        ("constant", 3.0, 0.5),
        ("apg", 2.5, 0.8),
        ("beta", 2.9, 0.4),
    )
    for target in ("gaussians", "uniforms"):
        for d in (2, 16):
            for law, mean, sd in laws:
                w = 0.0 if law == "conditional" else 3.0
                rows.append({
                    "key": f"{target}-d{d}-w3-{law}", "target": target, "d": d, "matched": False,
                    "law": law, "params": {"eta": 0.5}, "prediction": "eps", **_weights(w),
                    "undefined": None, "note": None, "mean": mean, "sd": sd, "w1_to_cond": mean,
                    "class_odds": 2 * mean if target == "gaussians" else None, "sliced_w1": 0.1,
                    "nuisance_sd": 1.0, "overshoot": None if target == "gaussians" else 0.5,
                    "off_support": 0.05, "off_support_denoised": 0.02 if law == "beta" else 0.0,
                    "off_support_name": "HDR99.9", "nfe": 64, "n": 512, "seed": 0, "steps": 16,
                })  # fmt: skip
    return rows, {}


MADE = {
    "sweep": ({"kind": "guidance.sweep", "target": "gaussians", "w": list(W)}, sweep_rows),
    "digits": ({"kind": "guidance.sweep", "target": "digits", "w": list(W),
                "params": {"label": 3}}, digits_rows),
    "dynamics": ({"kind": "guidance.dynamics"}, dynamics_rows),
    "rates": ({"kind": "guidance.rates"}, rates_rows),
    "error": ({"kind": "guidance.error"}, error_rows),
    "samplers": ({"kind": "guidance.samplers"}, samplers_rows),
    "peers": ({"kind": "guidance.peers"}, peers_rows),
    "other": ({"kind": "something.else"}, lambda: ([{"key": "a", "x": [1, 2], "y": None}], {})),
}  # fmt: skip


@pytest.fixture(scope="session")
def kinds():
    """Every kind's configuration, rows and arrays: name -> (config, rows, arrays)."""
    return {name: (config, *make()) for name, (config, make) in MADE.items()}


@pytest.fixture(scope="session")
def write_run():
    """write_run(folder, config, rows, arrays) -> the Run, closed."""

    def write(folder, config, rows, arrays=None):
        with Run.open(folder, config) as run:
            for name, array in (arrays or {}).items():
                run.save_array(name, array)
            for row in rows:
                run.append(row)
        return Run.read(folder)

    return write


@pytest.fixture
def light(monkeypatch):
    """Pages without plotly's script, which is 5 MB and the same in each."""
    from assay.report import page

    monkeypatch.setattr(page, "_plotly", lambda: "var Plotly;")
