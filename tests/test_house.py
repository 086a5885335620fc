"""The house rules: size budgets, imports that point down only, what must not import torch."""

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "assay").rglob("*.py"))
LIGHT = ("assay", "assay.cli", "assay.runs", "assay.guidance", "assay.guidance.targets",
         "assay.guidance.pushforward", "assay.guidance.tilt", "assay.guidance.cli",
         "assay.rules.genraven", "assay.rules.cli", "assay.report.cli")  # fmt: skip


def _functions():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", node


def test_modules_stay_within_400_lines_and_a_median_of_150():
    sizes = {str(p.relative_to(ROOT)): len(p.read_text().splitlines()) for p in SOURCES}
    assert not {name: n for name, n in sizes.items() if n > 400}
    assert statistics.median(n for n in sizes.values() if n > 5) <= 150, sizes


def test_functions_stay_within_80_lines_and_a_median_of_10():
    sizes = {name: node.end_lineno - node.lineno + 1 for name, node in _functions()}
    assert not {name: n for name, n in sizes.items() if n > 80}
    assert statistics.median(sizes.values()) <= 10


def test_functions_take_at_most_seven_arguments():
    def count(node):
        a = node.args
        names = [x.arg for x in (*a.posonlyargs, *a.args, *a.kwonlyargs)]
        return len([n for n in names if n not in ("self", "cls")])

    assert not {name: count(node) for name, node in _functions() if count(node) > 7}


def test_imports_point_down_only():
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run([command], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("module", LIGHT)
def test_light_modules_never_import_torch(module):
    code = (
        f"import sys, {module}; "
        "bad = {'torch', 'diffusers', 'transformers'} & set(sys.modules); sys.exit(str(bad)) "
        "if bad else None"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_cli_help_is_quick_and_light():
    code = (
        "import sys, assay.cli; assay.cli.main(['--help']); "
        "heavy = {'torch', 'numpy', 'scipy', 'numba', 'pandas', 'plotly'} & set(sys.modules); "
        "sys.exit(str(heavy)) if heavy else None"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "guidance" in done.stdout
