"""Models as files: what is saved is loaded, exported in bfloat16, refused where damaged."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

import assay
from assay import runs
from assay.rules import evaluate, modelfile, recipes, shipping, train

ROOT = Path(__file__).parents[2]
TINY = next(name for name in recipes.NAMES if name.endswith("-tiny"))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    recipe = recipes.get(TINY)
    fit = recipe.fit.model_copy(update={"n_steps": 2, "batch": 8, "ema": 0.5})
    folder = tmp_path_factory.mktemp("run")
    train.train(recipe.model_copy(update={"fit": fit}), folder)
    return folder


@pytest.fixture
def shelf(run, tmp_path, monkeypatch):
    """A folder of shipped models with one in it."""
    monkeypatch.setattr(shipping, "FOLDER", tmp_path)
    shipping.export(run, "first-one", tmp_path)
    return tmp_path


def test_a_saved_model_is_the_model(run, tmp_path):
    model = assay.load(run)
    model.save(tmp_path / "some.safetensors")
    again = assay.load(tmp_path / "some.safetensors")
    np.testing.assert_array_equal(again.sample(20, 3), model.sample(20, 3))
    for key in ("family", "samples_seen", "averaged", "fit", "data"):
        assert again.about[key] == model.about[key]
    assert repr(again) == repr(model)
    assert "16 samples seen" in repr(model)
    np.testing.assert_array_equal(
        assay.load(run / train.CHECKPOINT).sample(5), assay.load(str(run)).sample(5)
    )


def test_an_exported_model_has_bfloat16_weights_and_its_own_rows(run, shelf):
    model, file = assay.load("first-one"), shelf / "first-one.safetensors"
    state = assay.load(run).family.state_dict()
    for name, value in model.family.state_dict().items():
        assert value.dtype == state[name].dtype
        if value.is_floating_point():
            torch.testing.assert_close(value, state[name].bfloat16().float(), rtol=0, atol=0)
    assert file.stat().st_size < 2.2 * model.about["parameters"] + 50_000
    assert shipping.names() == ["first-one"]
    config = evaluate.EvaluateConfig(n=20, protocols=("unconditional",))
    rows = evaluate.evaluate(model, config)
    assert rows[0]["samples_seen"] == 16
    assert rows[0]["parameters"] == model.about["parameters"]
    assert rows[0]["training_flop"] > 0
    modelfile.add_rows(file, rows)
    assert modelfile.about(file)["rows"] == runs.plain(rows)
    assert (assay.load("first-one").sample(9) == model.sample(9)).all()


def test_shipped_models_are_named_best_first(run, tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "FOLDER", tmp_path)
    for name, share in (("a-weak", 0.1), ("b-strong", 0.9), ("c-unmeasured", None)):
        file = shipping.export(run, name, tmp_path)
        if share is not None:
            modelfile.add_rows(file, [{"part": "completion", "trained": share}])
    assert shipping.names() == ["b-strong", "a-weak", "c-unmeasured"]


def test_averaged_and_raw_weights_are_what_was_asked_for(run, tmp_path):
    raw = shipping.export(run, "raw", tmp_path, averaged=False)
    assert modelfile.about(raw)["averaged"] is False
    assert assay.load(raw).about["averaged"] is False
    with pytest.raises(ValueError, match="raw weights alone"):
        assay.load(raw, averaged=True)
    with pytest.raises(ValueError, match="device 'mars'"):
        assay.load(raw, device="mars")


def test_what_is_no_model_is_refused(run, shelf, tmp_path):
    with pytest.raises(ValueError, match=r"'none' is no shipped model \(first-one\)"):
        assay.load("none")
    with pytest.raises(ValueError, match="not a Run"):
        assay.load(tmp_path)
    file = shelf / "first-one.safetensors"
    data = file.read_bytes()
    file.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(ValueError, match="not the file that its"):
        assay.load("first-one")
    file.write_bytes(data[:100])
    with pytest.raises(ValueError, match="cannot be read"):
        assay.load("first-one")
    said = json.loads(file.with_suffix(".json").read_text())
    for broken in ("", "{}", json.dumps({**said, "rows": 3})):
        file.with_suffix(".json").write_text(broken)
        with pytest.raises(ValueError, match=r"first-one\.json"):
            assay.load(file)
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        assay.load(run).save(tmp_path / "x.bin")


def test_only_small_models_whose_training_has_ended_are_exported(run, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="small letters"):
        shipping.export(run, "No Name", tmp_path)
    monkeypatch.setattr(shipping, "LIMIT", 1000)
    with pytest.raises(ValueError, match="at most 1,000"):
        shipping.export(run, "name", tmp_path)
    config = json.loads((run / "config.json").read_text())
    config["fit"]["n_steps"] = 3
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(config))
    (other / train.CHECKPOINT).write_bytes((run / train.CHECKPOINT).read_bytes())
    with pytest.raises(ValueError, match="has not ended"):
        shipping.export(other, "name", tmp_path)
    assert not list(tmp_path.glob("name*"))


def test_hub_models_are_saved_and_read_in_a_folder(run, tmp_path):
    hub = pytest.importorskip("assay.rules.hub")
    model = assay.load(run)
    hub.HubModel(model).save_pretrained(tmp_path / "model")
    names = sorted(p.name for p in (tmp_path / "model").iterdir())
    assert names == ["README.md", "model.json", "model.safetensors"]
    again = hub.HubModel.from_pretrained(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(again.sample(20, 3), model.sample(20, 3))
    assert again.about["samples_seen"] == 16
    with pytest.raises(ValueError, match=r"model\.json"):
        hub.HubModel.from_pretrained(tmp_path)


def test_names_and_load_import_nothing_heavy():
    code = (
        "import sys, assay; from assay import cli; assert callable(assay.load); "
        "cli.main(['rules', 'models', '--names']); cli.main(['rules', 'recipes']); "
        "bad = {'torch', 'transformers', 'diffusers', 'huggingface_hub'} & set(sys.modules); "
        "sys.exit(str(bad)) if bad else None"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[: len(shipping.names())] == shipping.names()


def test_every_shipped_model_is_small_final_and_measured():
    for name in shipping.names():
        file = shipping.FOLDER / f"{name}.safetensors"
        assert file.stat().st_size <= shipping.LIMIT
        said = modelfile.about(file)
        fit = said["recipe"]["fit"]
        assert said["samples_seen"] == fit["n_steps"] * fit["batch"]
        keys = {row["key"] for row in said["rows"]}
        assert {"unconditional/T=1", "completion/r3c3"} <= keys


@pytest.mark.slow
def test_the_wheel_holds_the_shipped_models(tmp_path):
    build = pytest.importorskip("hatchling.build")
    code = f"import hatchling.build as b; print(b.build_wheel({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    assert build is not None
    inside = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    for path in shipping.FOLDER.iterdir():
        if path.suffix in (".json", ".safetensors"):
            assert f"assay/rules/shipped/{path.name}" in inside
