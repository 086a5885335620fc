"""Data sets: exact counts, parts disjoint by rows, one fingerprint, and never half a folder."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.rules import datasets, folders, genraven, memorisation, panelfile


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return datasets.write(tmp_path_factory.mktemp("sets") / "a", 40, split=3, seed=5)


def canonical(x):
    return {tuple(sorted(map(bytes, row.swapaxes(0, 1).copy()))) for row in x.reshape(-1, 3, 9, 3)}


def test_parts_have_their_rules_in_equal_numbers(written):
    held_out = set(genraven.SPLITS[3])
    for name, rules, n in [
        ("train", set(range(40)) - held_out, 40),
        ("validation", set(range(40)) - held_out, 500),
        ("held_out", held_out, 500),
    ]:
        x, y = written.part(name)
        assert (x.dtype, y.dtype) == (np.int8, np.int64)
        assert dict(zip(*np.unique(y, return_counts=True), strict=True)) == dict.fromkeys(rules, n)
        assert genraven.check(x)[np.arange(len(y)), :, y].all()
        assert isinstance(x.base, np.memmap)  # not read into memory


def test_parts_are_disjoint_by_rows_whatever_the_cells_order(written):
    train, validation, held_out = (canonical(written.part(name)[0]) for name in datasets.PARTS)
    assert not train & validation
    assert not train & held_out
    assert not validation & held_out


def test_training_samples_with_a_barred_row_are_passed_over():
    x, _ = genraven.generate(30, [30], datasets.rule_seed(0, 30))
    barred = memorisation.Index.build(x[[3, 11]])
    source = datasets._Source(0, 30)
    kept = np.concatenate([source.take(5, barred), source.take(20, barred)])
    np.testing.assert_array_equal(kept, np.delete(x, [3, 11], 0)[:25])
    assert source.dropped == 2


def test_smaller_set_is_the_beginning_of_a_larger_one(written, tmp_path):
    small = datasets.write(tmp_path / "b", 7, split=3, seed=5)
    for name in datasets.PARTS:
        for few, many in zip(small.part(name), written.part(name), strict=True):
            np.testing.assert_array_equal(few, many[: len(few)])
    assert len(small.part("train")[0]) == 7 * 35
    assert small.fingerprint != written.fingerprint


def test_rules_do_not_share_their_random_streams(written):
    """No two rules of a part begin with the same positions in their first sample."""
    x, _ = written.part("validation")
    first = (x[:35, ..., 0] >= 0).reshape(35, -1)
    assert len(np.unique(first, axis=0)) == 35


def test_both_formats_hold_the_same_under_one_fingerprint(written, tmp_path):
    other = datasets.write(tmp_path / "b", 40, split=3, seed=5, format="parquet")
    assert other.fingerprint == written.fingerprint
    for name in datasets.PARTS:
        for a, b in zip(written.part(name), other.part(name), strict=True):
            np.testing.assert_array_equal(a, b)
    table = pq.read_table(tmp_path / "b" / "train.parquet")
    assert table.schema.field("panels").type == pa.list_(pa.int8(), 243)
    assert table.schema.names == ["panels", "rule"]
    other.verify()
    written.verify()


def test_fingerprint_is_frozen(written):
    """Changes only with the law of the samples (LAW_VERSION) or the layout of a data set."""
    assert written.about["law_version"] == genraven.LAW_VERSION
    assert written.fingerprint.startswith(FROZEN)


def test_writing_again_finds_the_same_and_refuses_another(written):
    before = {p.name: p.stat().st_mtime_ns for p in written.path.iterdir()}
    assert datasets.write(written.path, 40, split=3, seed=5).about == written.about
    with pytest.raises(ValueError, match=r"another data set \(seed 5, not 6\)"):
        datasets.write(written.path, 40, split=3, seed=6)
    assert {p.name: p.stat().st_mtime_ns for p in written.path.iterdir()} == before


def test_strangers_are_left_alone(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        datasets.write(tmp_path, 2)
    with pytest.raises(ValueError, match="is a file"):
        datasets.write(tmp_path / "mine.txt", 2)
    with pytest.raises(ValueError, match="cannot be written"):
        datasets.write(tmp_path / "mine.txt" / "set", 2)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_taken(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path / "set")
    monkeypatch.setattr(datasets, "VALIDATION", 2)
    datasets.write(".", 2)
    assert datasets.Dataset.read(tmp_path / "set").about["samples_per_rule"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["set"]


def test_a_failed_write_leaves_nothing(tmp_path):
    def fail(n):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        datasets.write(tmp_path / "set", 2, advance=fail)
    assert not list(tmp_path.iterdir())


def test_a_killed_write_leaves_no_half_set_and_the_next_one_succeeds(tmp_path):
    code = (
        "import sys, time; from assay.rules import datasets\n"
        "def wait(n): print(n, flush=True); time.sleep(60)\n"
        "datasets.write(sys.argv[1], 300, advance=wait)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "set")], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()
        with pytest.raises(ValueError, match="another process is writing"):
            datasets.write(tmp_path / "set", 3)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [p.name for p in tmp_path.iterdir()] == [".set.part"]
    datasets.write(tmp_path / "set", 3).verify()
    assert [p.name for p in tmp_path.iterdir()] == ["set"]
    assert not (tmp_path / "set" / ".lock").exists()


def test_damage_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "VALIDATION", 2)
    made = datasets.write(tmp_path / "set", 2)
    x = np.load(tmp_path / "set" / "train.npy", mmap_mode="r+")
    x[5, 0, 0, 0, 0] ^= 1
    x.flush()
    with pytest.raises(ValueError, match="train is not what was written"):
        made.verify()
    np.save(tmp_path / "set" / "train.npy", x[:5])
    with pytest.raises(ValueError, match="does not hold 70 samples"):
        made.part("train")
    (tmp_path / "set" / "train_rules.npy").unlink()
    with pytest.raises(ValueError, match="cannot be read"):
        made.part("train")
    with pytest.raises(ValueError, match="name must be"):
        made.part("test")
    (tmp_path / "set" / "dataset.json").write_text(json.dumps({"kind": datasets.KIND}))
    with pytest.raises(ValueError, match="is incomplete"):
        datasets.Dataset.read(tmp_path / "set")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"samples_per_rule": 0}, "samples per rule"),
        ({"split": 10}, "split must be 0 to 9"),
        ({"seed": -1}, "seed"),
        ({"format": "csv"}, "format must be"),
    ],
)
def test_wrong_arguments_are_named(arguments, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        datasets.write(tmp_path / "set", **arguments)
    assert not list(tmp_path.iterdir())


# ---- files of other people's making ------------------------------------------------------------


def save_all(x, folder):
    np.save(folder / "x.npy", x)
    np.savez_compressed(folder / "x.npz", x=x, other=1)
    (folder / "x.json").write_text(json.dumps(x.tolist()))
    flat = x.reshape(-1, 243).tolist()
    pq.write_table(pa.table({"panels": flat}), folder / "x.parquet")
    return [folder / f"x.{ending}" for ending in ("npy", "npz", "json", "parquet")]


def test_every_kind_of_file_gives_the_panels(tmp_path):
    x, _ = genraven.generate(4, seed=1)
    x = x.astype(np.int64)
    x[0, 0, 0, 0] = 300, -1, -5
    for path in save_all(x, tmp_path):
        np.testing.assert_array_equal(datasets.load_panels(path), x)
    for path in save_all(x[:0], tmp_path):
        if path.suffix != ".parquet":  # an untyped empty column is no list of integers
            assert datasets.load_panels(path).shape == (0, 3, 3, 9, 3)


def save_npy_as(path):
    with path.open("wb") as file:
        np.save(file, np.zeros(2))


BAD = {
    "shape.npy": (lambda p: np.save(p, np.zeros((2, 81), np.int8)), "shape"),
    "float.npy": (lambda p: np.save(p, np.zeros((2, 3, 3, 9, 3))), "float64"),
    "objects.npy": (lambda p: np.save(p, np.array([{}]), allow_pickle=True), "allow_pickle"),
    "empty.npy": (lambda p: p.write_bytes(b""), "empty"),
    "text.npy": (lambda p: p.write_text("no array"), "cannot be read"),
    "cut.npy": (lambda p: p.write_bytes(b"\x93NUMPY\x01\x00"), "cannot be read"),
    "absent.npy": (lambda p: None, "No such file"),
    "nokey.npz": (lambda p: np.savez(p, y=np.zeros(2)), "no array x, only y"),
    "text.npz": (lambda p: p.write_text("PK no archive"), "cannot be read"),
    "npy.npz": (lambda p: save_npy_as(p), "no .npz archive"),
    "nocolumn.parquet": (lambda p: pq.write_table(pa.table({"a": [1]}), p), "no column panels"),
    "short.parquet": (lambda p: pq.write_table(pa.table({"panels": [[1, 2]]}), p), "243"),
    "uneven.parquet": (
        lambda p: pq.write_table(pa.table({"panels": [[1] * 242, [1] * 244]}), p), "243"),
    "scalar.parquet": (lambda p: pq.write_table(pa.table({"panels": [1]}), p), "lists of 243"),
    "null.parquet": (
        lambda p: pq.write_table(pa.table({"panels": [[1] * 242 + [None]]}), p), "243"),
    "float.parquet": (
        lambda p: pq.write_table(pa.table({"panels": [[1.5] * 243]}), p), "float64"),
    "text.parquet": (lambda p: p.write_text("no table"), "cannot be read"),
    "ragged.json": (lambda p: p.write_text("[[1, 2], [3]]"), "unequal length"),
    "float.json": (lambda p: p.write_text("[[1.5]]"), "shape"),
    "object.json": (lambda p: p.write_text('{"x": 1}'), "no nested list"),
    "broken.json": (lambda p: p.write_text("[1, 2"), "cannot be read"),
    "deep.json": (lambda p: p.write_text("[" * 100_000), "cannot be read"),
    "bytes.json": (lambda p: p.write_bytes(b"\xff\xfe["), "cannot be read"),
    "words.csv": (lambda p: p.write_text("1,2"), r"come in \.npy"),
    "folder.npy": (lambda p: p.mkdir(), "is a folder"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(BAD))
def test_a_bad_file_is_one_clear_line(name, tmp_path):
    make, words = BAD[name]
    make(tmp_path / name)
    with pytest.raises(ValueError, match=words) as caught:
        panelfile.load_panels(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_odd_cells_are_counted(monkeypatch):
    x, _ = genraven.generate(5, seed=2)
    assert datasets.cell_counts(x) == {"cells": 405, "half_empty": 0, "out_of_range": 0}
    x = x.astype(np.int16)
    x[0, 0, 0, 0] = 3, -1, 3
    x[1, 0, 0, 0] = -1, -1, 10
    x[2, 0, 0, 0] = 7, 9, 9
    x[4, 2, 2, 8] = 0, 0, -300
    monkeypatch.setattr(panelfile, "_CHUNK", 2)
    assert datasets.cell_counts(x) == {"cells": 405, "half_empty": 2, "out_of_range": 3}


def test_locked_folder_is_not_taken_and_the_lock_goes_with_the_write(tmp_path):
    path = tmp_path / "a"
    with folders.written(path, "m.json") as part:
        (part / "m.json").write_text("1")
        start = time.monotonic()
        with (
            pytest.raises(ValueError, match="another process"),
            folders.written(path, "m.json"),
        ):
            pass
        assert time.monotonic() - start < 5
    assert [p.name for p in path.iterdir()] == ["m.json"]
    with folders.written(path, "m.json") as part:
        (part / "m.json").write_text("2")
    assert (path / "m.json").read_text() == "2"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


FROZEN = "ecd3b0d0d7142bf8"
