"""The study of shipped models: rows as evaluated by hand, pictures as checked, nothing twice."""

import re
import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from assay.rules import evaluate, genraven, modelfile, recipes, shipping, showcase, train
from assay.runs import Run

SMALL = {**showcase.CONFIG, "n": 40, "n_any_panel": 24, "samples": 5}


def quick(name, **network):
    recipe = recipes.get(name)
    trunk = {**recipe.network["trunk"], "width": 16, "layers": 1, "heads": 2}
    fit = recipe.fit.model_copy(update={"n_steps": 1, "batch": 64, "bf16": False})
    network = {**recipe.network, "trunk": trunk, "rank": 4, "components": 2, **network}
    return recipe.model_copy(update={"network": network, "fit": fit})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of two shipped models: of occupancy alone, and of whole panels."""
    folder = tmp_path_factory.mktemp("shipped")
    made = {"mini": quick("settoken-tiny"), "whole": quick("settoken-small", links=0)}
    for name, recipe in made.items():
        train.train(recipe, folder / "runs" / name)
        path = shipping.export(folder / "runs" / name, name, folder)
        config = evaluate.EvaluateConfig(n=20, protocols=("unconditional",))
        modelfile.add_rows(path, evaluate.evaluate(shipping.load(path), config))
    return folder


@pytest.fixture
def shipped(folder, monkeypatch):
    monkeypatch.setattr(shipping, "FOLDER", folder)


@pytest.fixture(scope="module")
def study(folder, tmp_path_factory):
    """The Run of both models, closed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shipping, "FOLDER", folder)
        config = {**SMALL, "models": showcase.config()["models"]}
        path = tmp_path_factory.mktemp("out") / "models"
        with Run.open(path, config) as run:
            showcase.fill(run, config)
    return Run.read(path)


def part(run, name, model):
    return [r for r in run.rows if (r["part"], r["model"], r["source"]) == (name, model, "here")]


def test_without_shipped_models_there_is_nothing_to_study(tmp_path, monkeypatch):
    from assay import demo

    monkeypatch.setattr(shipping, "FOLDER", tmp_path)
    assert showcase.config()["models"] == {}
    assert "models" not in {study.name for study in demo.studies()}


def test_demo_studies_the_shipped_models_of_these_very_weights(shipped, folder):
    from assay import demo

    (study,) = (s for s in demo.studies() if s.name == "models")
    assert study.config == {**showcase.CONFIG, "models": study.config["models"]}
    hashes = {name: modelfile.about(folder / name)["sha256"] for name in ("mini", "whole")}
    assert study.config["models"] == hashes


def test_shares_are_those_of_an_evaluation_by_hand(study, folder):
    config = evaluate.EvaluateConfig(n=40, n_any_panel=24, seed=1, levels=tuple(SMALL["levels"]))
    by_hand = evaluate.evaluate(shipping.load(folder / "mini.safetensors"), config)
    found = {row["key"]: row for row in study.rows}
    for row in by_hand:
        there = found[f"mini/{row['key']}"]
        for column in row.keys() - {"key", "seconds", "samples_per_s"}:
            assert there[column] == row[column], (row["key"], column)


def test_rows_of_the_file_stand_beside_and_none_is_lost(study, folder):
    for name in ("mini", "whole"):
        rows = modelfile.about(folder / name)["rows"]
        there = [r for r in study.rows if r["model"] == name and r["source"] == "file"]
        assert [r["key"] for r in there] == [f"{name}/file/{r['key']}" for r in rows]
        assert [r.get("c3") for r in there] == [r.get("c3") for r in rows]
        (about,) = part(study, "model", name)
        assert about["samples_seen"] == 64
        assert about["occupancy_only"] == (name == "mini")


def test_pictures_are_the_first_samples_and_say_what_the_checker_says(study, folder):
    x = shipping.load(folder / "whole.safetensors").sample(5, seed=1)
    ok = genraven.check(x)
    rows = part(study, "sample_picture", "whole")
    assert [r["index"] for r in rows] == list(range(5))
    for row, checks in zip(rows, ok, strict=True):
        assert row["right"] == checks.all(0).any()
        objects = re.findall("<(?:circle|polygon)", row["svg"])
        assert len(objects) == (x[row["index"], ..., 0] >= 0).sum()


def test_questions_come_from_each_quantity_in_turn(study):
    for name, kinds in (("mini", 2), ("whole", 5)):
        rows = [r for r in part(study, "completion_picture", name) if r["mask"] == "r3c3"]
        assert [r["held_out"] for r in rows] == [False] * 4 + [True] * 2
        asked = [genraven.RULES[r["rule"]].attribute for r in rows[:4]]
        assert len(set(asked)) == min(kinds, 4)
        assert all(genraven.RULES[r["rule"]].name == r["name"] for r in rows)


def test_answers_are_judged_and_framed_as_the_checker_says(study, folder):
    model = shipping.load(folder / "whole.safetensors")
    x, y = genraven.generate(24, range(40), 1_000_004)
    rows = [r for r in part(study, "completion_picture", "whole") if r["mask"] == "r3c3"]
    for row in rows:
        i = next(i for i in range(24) if y[i] == row["rule"])
        answer = model.complete(x[[i]], np.arange(9).reshape(3, 3) == 8, seed=1)
        assert row["right"] == genraven.check(answer)[0].all(0).any()
        colours = re.findall(r'rx="6" fill="(#\w+)"', row["svg"])
        assert colours == [showcase.draw.GOOD if row["right"] else showcase.draw.BAD]


def test_several_panels_are_asked_or_refused(study, folder):
    shares = {r["mask"]: r for r in part(study, "any_mask", "whole")}
    assert list(shares) == ["r1c2,r3c3", "r2c1,r2c2,r2c3", "r1c1,r2c2,r3c3"]
    shown = {r["mask"]: r for r in part(study, "completion_picture", "whole")}
    mask = np.zeros((3, 3), np.bool_)
    mask[[0, 2], [1, 2]] = True
    model = shipping.load(folder / "whole.safetensors")
    x, y = genraven.generate(24, range(40), 1_000_004)
    checks: Any = genraven.check(model.complete(x, mask, seed=1))
    ok = checks.all(1).any(1)
    unseen = np.isin(y, genraven.SPLITS[0])
    row = shares["r1c2,r3c3"]
    assert (row["all"], row["trained"]) == (ok.mean(), ok[~unseen].mean())
    for name in shares:
        assert shown[name]["svg"].count(">?<") == name.count("r")
        assert not shown[name]["held_out"]
    refused = {r["mask"]: r.get("refused", "") for r in part(study, "any_mask", "mini")}
    assert "cannot be completed" in refused["r1c2,r3c3"]
    assert refused["r2c1,r2c2,r2c3"] == ""


def test_every_picture_is_well_formed_and_discs_stand_for_occupied_cells(study):
    for row in study.rows:
        if "svg" in row:
            ET.fromstring(row["svg"])
    for row in part(study, "sample_picture", "mini"):
        assert "<polygon" not in row["svg"]
        assert set(re.findall(r'<circle[^>]*fill="(#\w+)"', row["svg"])) == {"#000000"}


def test_nothing_is_computed_twice_and_what_is_missing_is(study, shipped, tmp_path, monkeypatch):
    cut = tmp_path / "models"
    with Run.open(cut, study.config) as run:
        for row in study.rows[:-30]:
            run.append(row)
        showcase.fill(run, run.config)
    again = Run.read(cut)
    keys = [row["key"] for row in study.rows]
    assert sorted(row["key"] for row in again.rows) == sorted(keys)
    monkeypatch.setattr(shipping, "load", None)  # a whole Run does not even load the models
    with Run.open(cut, study.config) as run:
        showcase.fill(run, run.config)
    assert len(Run.read(cut).rows) == len(keys)


def test_memorisation_is_left_out_where_training_was_long(shipped, tmp_path):
    models = {"mini": showcase.config()["models"]["mini"]}
    config = {**SMALL, "most_trained": 63, "n_any_panel": 4, "models": models}
    with Run.open(tmp_path / "models", config) as run:
        showcase.fill(run, config)
    assert not part(run, "copies", "mini")
    (row,) = part(run, "unconditional", "mini")
    assert "c3" in row
    assert "novel_c3" not in row


def test_rows_at_fault_stand_on_red():
    x, _ = genraven.generate(1, [3], 0)
    marks = {(): 0, (2,): 1, (0, 1, 2): 3}
    for offending, n in marks.items():
        svg = showcase.sample_svg(x[0], offending)
        assert svg.count(showcase.draw.TINT) == svg.count(f'fill="{showcase.draw.BAD}"') == n
        assert svg.count(f'fill="{showcase.draw.GOOD}"') == 3 - n
