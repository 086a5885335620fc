"""Numbers, weights, shares and intervals as the page writes them, and names that users chose.

Weights are the paper's, guided = (1+w) cond - w uncond; wherever w stands, guidance_scale = 1 + w
stands beside it.
"""

from __future__ import annotations

import html
import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

UNKNOWN = "–"
_LEAST = 1e-6  # shares below it are shown as such


def number(value: Any, digits: int = 4) -> str:
    """A number to so many significant digits; a dash where it is unknown; text as it is."""
    if value is None or isinstance(value, str):
        return UNKNOWN if value is None else value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        return _number(value, digits) if math.isfinite(value) else UNKNOWN
    if isinstance(value, Mapping):
        return ", ".join(f"{k} {number(v)}" for k, v in value.items()) or UNKNOWN
    return ", ".join(number(v) for v in value) or UNKNOWN


def _number(value: float, digits: int) -> str:
    if isinstance(value, int) or value == 0:
        shown = f"{int(value):,}"
    elif 1e-4 <= abs(value) < 1e7:
        decimals = max(digits - 1 - math.floor(math.log10(abs(value))), 0)
        shown = f"{value:,.{decimals}f}"
        shown = shown.rstrip("0").rstrip(".") if "." in shown else shown
    else:
        mantissa, power = f"{value:.{digits - 1}e}".split("e")
        mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
        shown = f"{mantissa} × 10{_raised(int(power))}"
    return shown.replace("-", "−")


def _raised(power: int) -> str:
    return str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def percent(share: Any) -> str:
    """A share in per cent, with the digits that matter near 0 and near 1."""
    if share is None:
        return UNKNOWN
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    if share < _LEAST:
        return "< 0.0001 %"
    if share > 0.9995:
        return "> 99.9 %"
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.1f} %"


def ratio(value: float | None) -> str:
    """A ratio in per cent, which may exceed 100."""
    return f"{100 * value:.0f} %" if value is not None and value > 1 else percent(value)


def weight(w: float) -> str:
    """w and its guidance_scale, in one breath."""
    return f"w = {number(float(w))} (guidance_scale {number(1 + float(w))})"


def weights(values: Iterable[float]) -> str:
    """Several weights, each with its guidance_scale."""
    return listed(weight(w) for w in values)


def listed(parts: Iterable[str]) -> str:
    """One, two and three: parts joined as in a sentence."""
    items = list(parts)
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def plural(n: int, noun: str) -> str:
    """ "1 row", "2 rows"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def capital(sentence: str) -> str:
    """The text with its first letter large, the rest as it is."""
    return sentence[:1].upper() + sentence[1:]


def safe(label: Any) -> str:
    """A label for plotly, which reads some HTML in texts: shown as it was written."""
    return html.escape(str(label), quote=False)


def slug(name: str) -> str:
    """A name as an anchor of the page."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "section"


def target(config: Mapping[str, Any]) -> str:
    """The target of a Run's configuration with the parameters that were given."""
    name = str(config.get("target") or "target")
    given = config.get("params")
    if not isinstance(given, Mapping) or not given or name == "mixture":
        return capital(name)
    return f"{capital(name)} ({', '.join(f'{k} {number(v)}' for k, v in given.items())})"


def command(config: Mapping[str, Any]) -> str:
    """The command line that makes a Run's rows again."""
    given = config.get("command")
    if isinstance(given, str) and given:
        return given
    if config.get("kind") != "guidance.sweep":
        return "assay demo --out DIR"
    flags = _flags(config)
    if flags is None:
        return "assay guidance sweep FILE.toml --out DIR"
    return shlex.join(["assay", "guidance", "sweep", *flags]) + " --out DIR"


def _flags(config: Mapping[str, Any]) -> list[str] | None:
    """Flags that say all of a sweep's configuration, or None where only a file can."""
    laws = config.get("laws") or [{"name": "constant"}]
    params = dict(config.get("params") or {})
    particles = dict(config.get("particles") or {})
    usual = {"sigma_min": 0.002, "sigma_max": 80.0, "scale": 1.0}
    if any(particles.get(name, value) != value for name, value in usual.items()):
        return None
    flat = set(params) <= {"mean", "sd", "prior", "low", "high", "label"}
    plain = flat and all(isinstance(v, (int, float)) for v in params.values())
    if not plain or any(law.get("params") for law in laws):
        return None
    names = [str(law.get("name")) for law in laws]
    flags = ["--target", str(config.get("target")), "--w", _commas(config.get("w") or [])]
    flags += [] if names == ["constant"] else ["--law", ",".join(names)]
    for flag, values in (("--solver", config.get("solvers")), ("--seed", config.get("seeds"))):
        flags += [flag, _commas(values)] if values and list(values) != [0] else []
    for name, value in {**params, **particles}.items():
        if name in ("n", "steps") or name in params:
            flags += [f"--{name}", _plain(value)]
    return flags


def _commas(values: Sequence[Any]) -> str:
    return ",".join(_plain(v) for v in values)


def _plain(value: Any) -> str:
    return f"{value:.12g}" if isinstance(value, float) else str(value)
