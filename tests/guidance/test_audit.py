"""Whole audits of tiny pipelines: rows, cost, resuming, what the exact denoisers say."""

import importlib.util
import json
import os
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("diffusers")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from assay import cli
from assay.guidance import audit
from assay.guidance.auditing.config import settings
from assay.runs import Run

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning",
    "ignore:The configuration file of this scheduler:FutureWarning",
)
MARKUP = "<script>1</script>"
SMALL = {"steps": 3, "seeds": [0, 1, 2], "batch": 3}


@pytest.fixture(scope="session")
def tiny():
    path = Path(__file__).parent.parent / "adapters" / "tiny.py"
    spec = importlib.util.spec_from_file_location("tiny", path)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def words(tmp_path_factory):
    return tmp_path_factory.mktemp("tokenizer")


def test_audit_of_exact_denoisers(tiny, words, tmp_path):
    """Weights as asked, both conventions, cost as counted, errors grown as they must, resumed."""
    pipe = tiny.exact(words, tiny.ddim())
    found = audit(pipe, ["a", MARKUP], [1.0, 4.0], settings=settings(SMALL), out=tmp_path / "run")
    lines = found.of("weight")
    assert [(r["w"], r["guidance_scale"]) for r in lines] == [(0, 1), (1, 2), (4, 5)]
    assert [r["w_measured"] for r in lines] == pytest.approx([0, 1, 4], abs=1e-9)
    assert [r["nfe"] for r in lines] == [3, 6, 6]
    assert len(found.of("sample")) == 2 * 3 * 3
    # D is nearly linear here, so independent errors add: sqrt((1+w)^2 + w^2) of those at w = 0
    grown = [r["amplification"] / lines[0]["amplification"] for r in lines]
    assert grown == pytest.approx([1, 5**0.5, 41**0.5], rel=0.15)
    # along the direction of guidance the samples move outwards
    overshoot = [r["overshoot"] for r in lines]
    assert overshoot == sorted(overshoot)
    assert found.recommendation["w"] in (0, 1, 4)
    assert found.recommendation["reason"]
    before = pipe.unet.nfe
    again = audit(pipe, ["a", MARKUP], [4.0, 1.0], settings=settings(SMALL), out=tmp_path / "run")
    assert pipe.unet.nfe == before
    assert again.rows == found.rows
    with pytest.raises(ValueError, match="another configuration"):
        audit(pipe, ["b"], [1.0], settings=settings(SMALL), out=tmp_path / "run")


def test_audit_in_batches_gives_the_same_samples(tiny, words, tmp_path):
    """And keeps nothing without a folder."""
    pipe = tiny.exact(words, tiny.ddim())
    whole, parts = (
        audit(pipe, ["a"], guidance_scale=[3.0], settings=settings({**SMALL, "batch": size}))
        for size in (3, 1)
    )
    left = {r["key"]: r["knn_distance"] for r in parts.of("sample")}
    assert left == pytest.approx({r["key"]: r["knn_distance"] for r in whole.of("sample")})


def test_guidance_that_does_nothing_is_said(tiny, words):
    pipe = tiny.exact(words, tiny.ddim())
    pipe.unet.uncond = pipe.unet.cond
    with pytest.raises(ValueError, match="guidance does nothing"):
        audit(pipe, ["a"], [1.0], settings=settings(SMALL))


@pytest.mark.slow
def test_audit_against_real_images_and_from_the_command_line(tiny, words, tmp_path, capsys):
    from PIL import Image

    folder = tmp_path / f"my {MARKUP.replace('/', '')} model"
    tiny.stable_diffusion(words).save_pretrained(folder)
    (tmp_path / "real").mkdir()
    rng = np.random.default_rng(0)
    for i in range(12):
        noise = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "real" / f"{i}.png")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text(f"a cat\n{MARKUP}\n")
    command = ["guidance", "audit", str(folder), "--prompts", str(prompts), "--w", "0,3",
               "--steps", "2", "--seed", "0,1", "--images", str(tmp_path / "real"),
               "--device", "cpu", "--out", str(tmp_path / "out"), "--json"]  # fmt: skip
    assert cli.main(command) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    lines = [r for r in rows if r["row"] == "weight"]
    assert [r["reference"] for r in lines] == ["images", "images"]
    assert all(r["n_reference"] == 12 and 0 <= r["off_support"] <= 1 for r in lines)
    config = Run.read(tmp_path / "out").config
    assert config["images"]["name"] == "real"
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()
    page = (tmp_path / "out" / "report.html").read_text()
    assert MARKUP not in page
    assert "&lt;script&gt;" in page


@pytest.mark.slow
def test_audit_of_classes(tiny):
    found = audit(tiny.dit(), ["3", "white shark"], [2.0], settings=settings(SMALL))
    assert [r["nfe"] for r in found.of("weight")] == [3, 6]
    with pytest.raises(ValueError, match="is unknown to DiTPipeline"):
        audit(tiny.dit(), ["a cat"], [2.0], settings=settings(SMALL))
