"""The README's figures are those of the code, its files exist."""

import re
from pathlib import Path

import pytest

from assay.guidance import targets
from assay.guidance.exact import off_support
from assay.guidance.pushforward import Pushforward
from assay.guidance.tilt import tilted

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = [[c.strip() for c in line.strip("|").split("|")] for line in README.splitlines()
        if line.startswith("| gaussians") or line.startswith("| uniforms")]  # fmt: skip


def test_readme_links_to_files_that_exist():
    found = re.findall(r"\]\(([^)#:]+)\)", README)
    assert found
    assert not [name for name in found if not (ROOT / name).exists()]


def test_readme_says_the_sentence_of_the_house_and_both_commands():
    assert "A denoiser is a function `(x, sigma) -> E[x0 | x]`" in README
    for command in ("make demo", "make test"):
        assert command in README
        assert f"{command.split()[1]}:" in (ROOT / "Makefile").read_text()


def test_readme_table_has_ten_exact_rows():
    assert len(ROWS) == 10


@pytest.mark.parametrize(
    "cells", [r for r in ROWS if float(r[1]) < 8], ids=lambda r: "-".join(r[:2])
)
def test_readme_table_is_what_the_code_computes(cells):
    name, w, scale, mean, tilted_mean, sd, off, n = cells
    target = targets.build(name)
    law = Pushforward(target, float(w))
    assert float(scale) == 1 + float(w)
    assert n == "exact"
    assert float(mean) == pytest.approx(law.mean(), rel=1e-3)
    assert float(sd) == pytest.approx(law.sd(), rel=1e-2)
    assert float(tilted_mean) == pytest.approx(tilted(target, float(w)).mean(), rel=1e-3)
    assert float(off.rstrip(" %")) / 100 == pytest.approx(off_support(target, law), rel=0.06)
