"""Copies: against plain Python sets of sorted cells, under every symmetry, and on fresh data."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.core import intervals
from assay.rules import bits, genraven, keytable, memorisation, parallel, settokens
from assay.rules.memorisation import LEVELS, Index

PLAIN = tuple(level for level in LEVELS if level != "set_row")


def few(n, seed, n_values=2, low=-1):
    """Panels with few values and many empty cells, so that copies abound at every level."""
    rng = np.random.default_rng(seed)
    x = rng.integers(low, n_values, (n, 3, 3, 9, 3))
    x[rng.random((n, 3, 3, 9)) < 0.8] = -1
    x[rng.random((n, 3)) < 0.4] = -1
    return x.astype(np.int8)


def contents(x, level, form):
    """What a level compares, as hashable Python values in the level's shape, flattened."""
    order = sorted if form == "canonical" else list

    def row_content(row):
        return tuple(order(tuple(row[:, p].ravel().tolist()) for p in range(9)))

    def set_content(row):
        full = (row != -1).all(-1)
        sets = [{(a, int(v)) for v in row[q, full[q], a]} for q in range(3) for a in range(3)]
        regions = [tuple(full[:, p].tolist()) for p in range(9)]
        venn = [regions.count(k) for k in itertools.product((False, True), repeat=3)]
        return tuple(map(frozenset, sets)), tuple(venn)

    rows = x.reshape(-1, 3, 9, 3)
    if level == "sample":
        return [tuple(order(map(row_content, sample))) for sample in x]
    if level == "row":
        return [row_content(row) for row in rows]
    if level == "set_row":
        return [set_content(row) for row in rows]
    if level == "panel":
        return [tuple(order(map(tuple, panel.tolist()))) for panel in rows.reshape(-1, 9, 3)]
    if level == "attribute_row":
        return [
            (a, tuple(order(map(tuple, row[:, :, a].T.tolist()))))
            for row in rows
            for a in range(3)
        ]
    panels = rows.reshape(-1, 9, 3)
    return [(a, tuple(order(panel[:, a].tolist()))) for panel in panels for a in range(3)]


def permuted(x, rng):
    """Each row's nine cells permuted, the same way in its three panels."""
    order = rng.random((*x.shape[:2], 9)).argsort(-1)
    return np.take_along_axis(x, order[:, :, None, :, None], 3)


@pytest.mark.parametrize("form", ["canonical", "plain"])
@pytest.mark.parametrize("low", [-1, -128])
def test_query_against_python_sets(form, low):
    levels = LEVELS if form == "canonical" else PLAIN
    train, asked = few(40, 0, low=-1), few(40, 1, low=-1 if low == -1 else -3)
    if low != -1:
        train[:10] = asked[:10]  # rows with values out of range are held and found alike
    asked[20:30] = permuted(train[:10], np.random.default_rng(2))
    asked[30:35] = train[30:35, ::-1]
    got = Index.build(train, levels, form=form).query(asked)
    for level in levels:
        known = set(contents(train, level, form))
        expected = [c in known for c in contents(asked, level, form)]
        assert 0 < sum(expected) < len(expected), level
        assert got[level].ravel().tolist() == expected, level


@given(seed=st.integers(0, 2**32 - 1), level=st.sampled_from(LEVELS))
def test_hashes_agree_exactly_where_contents_do(seed, level):
    x = few(6, seed)
    found = memorisation.hashes(x, level).ravel().tolist()
    meant = contents(x, level, "canonical")
    assert len(set(found)) == len(set(meant)) == len(set(zip(found, meant, strict=True)))


@given(seed=st.integers(0, 2**32 - 1))
def test_hashes_are_blind_to_cell_and_row_order(seed):
    rng = np.random.default_rng(seed)
    x = few(3, seed, n_values=7)
    moved = permuted(x, rng)
    for level in LEVELS:
        assert (memorisation.hashes(x, level) == memorisation.hashes(moved, level)).all()
    np.testing.assert_array_equal(
        memorisation.hashes(x[:, [2, 0, 1]], "sample"), memorisation.hashes(x, "sample")
    )


def test_columns_of_any_bytes_have_distinct_hashes():
    """All nine bytes of a column count: one cell changed in one byte changes the row's hash."""
    x = np.full((1 + 81 * 255, 1, 3, 9, 3), 5, np.int8).repeat(3, 1)
    for place, value in itertools.product(range(81), range(255)):
        row = x[1 + place * 255 + value].reshape(3, 81)[0]
        row[place] = value - 128 if value - 128 < 5 else value - 127
    plain = memorisation.hashes(x, "row", "plain")[:, 0]
    assert len(np.unique(plain)) == len(x)
    canonical = memorisation.hashes(x, "row")[:, 0]
    assert len(np.unique(canonical)) == 1 + 9 * 255  # the cell's place is forgotten


def test_hash_bits_are_even():
    """Each of 64 bits is set in half of 30,000 distinct rows: within 5.5 sd, error below 3e-6."""
    rng = np.random.default_rng(5)
    x = rng.integers(0, 7, (10_000, 3, 3, 9, 3)).astype(np.int8)
    keys = memorisation.hashes(x).ravel()
    share = ((keys[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)).mean(0)
    assert np.abs(share - 0.5).max() < 5.5 * 0.5 / np.sqrt(keys.size)


def test_fresh_fill_is_a_copy_at_set_level_only():
    train, _ = genraven.generate(200, range(40), seed=0)
    fresh = settokens.decode(settokens.encode(train), np.random.default_rng(0))
    index = Index.build(train, ("row", "set_row"))
    copies = index.query(fresh)
    assert copies["set_row"].all()
    sets = bits.panel_masks(train)[..., 1:]
    one_filling = (np.bitwise_count(sets) == 1).all((2, 3))
    assert copies["row"][one_filling].all()
    assert copies["row"][~one_filling].mean() < 0.15  # few objects, and luck
    assert index.novel(fresh, "set_row").sum() == 0


def test_novel_samples_have_no_copied_row():
    train, _ = genraven.generate(50, range(40), seed=0)
    asked, _ = genraven.generate(40, range(40), seed=1)
    asked[:10, 1] = permuted(train[:10], np.random.default_rng(0))[:, 2]
    novel = Index.build(train).novel(asked)
    assert novel.tolist() == [False] * 10 + [True] * 30


def test_stream_equals_build_of_the_same_samples(monkeypatch):
    monkeypatch.setattr(memorisation, "_CHUNK", 64)
    x, _ = genraven.generate(150, range(40), seed=3)
    streamed = Index.stream(150, range(40), 3, LEVELS)
    built = Index.build(x, LEVELS)
    assert streamed.n_samples == built.n_samples == 150
    for level in LEVELS:
        assert (memorisation.hashes(x, level).ravel().size) >= len(built._tables[level].keys)
        np.testing.assert_array_equal(streamed._tables[level].keys, built._tables[level].keys)


def test_threads_and_chunks_change_nothing(monkeypatch):
    train, asked = few(300, 0), few(300, 1)
    one = Index.build(train, LEVELS, threads=1).query(asked)
    monkeypatch.setattr(memorisation, "_CHUNK", 170)
    monkeypatch.setattr(parallel, "SPAN", 17)
    two = Index.build(train, LEVELS, threads=2).query(asked)
    for level in LEVELS:
        np.testing.assert_array_equal(one[level], two[level])


@given(chunks=st.lists(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 9)), max_size=6))
def test_key_table_against_python_set(chunks):
    table, known = keytable.KeyTable(), set()
    for chunk in chunks:
        table.add(np.array(chunk, np.uint64))
        known |= set(chunk)
        asked = sorted(known) + [0, 1, 5, 2**63, 2**64 - 1]
        assert table.contains(np.array(asked, np.uint64)).tolist() == [k in known for k in asked]
    assert table.keys.tolist() == sorted(known)
    assert table.nbytes >= 8 * len(known)


def test_key_table_merges_as_it_grows(monkeypatch):
    monkeypatch.setattr(keytable, "_SMALLEST", 4)
    rng = np.random.default_rng(0)
    table, known = keytable.KeyTable(), set()
    for size in (3, 5, 0, 30, 1, 100):
        keys = rng.integers(0, 80, size).astype(np.uint64) << np.uint64(57)
        table.add(keys)
        known |= set(keys.tolist())
    assert table.keys.tolist() == sorted(known)


def test_index_round_trip_and_growth(tmp_path):
    train, asked = few(40, 0), few(40, 1)
    index = Index.build(train[:20], LEVELS)
    index.save(tmp_path / "index")
    again = Index.load(tmp_path / "index")
    assert (again.levels, again.form, again.n_samples) == (LEVELS, "canonical", 20)
    again.add(train[20:])
    whole = Index.build(train, LEVELS).query(asked)
    again.save(tmp_path / "index")  # replaces what it was read from
    for found in (again, Index.load(tmp_path / "index")):
        assert found.nbytes.keys() == set(LEVELS)
        for level, copies in found.query(asked).items():
            np.testing.assert_array_equal(copies, whole[level])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index"]
    assert {p.suffix for p in (tmp_path / "index").iterdir()} == {".npy", ".json"}


def test_index_refuses_damage_and_strangers(tmp_path):
    index = Index.build(few(40, 0))
    index.save(tmp_path / "index")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        index.save(tmp_path / "other")
    assert (tmp_path / "other" / "mine.txt").read_text() == "mine"
    with pytest.raises(ValueError, match="cannot be read"):
        Index.load(tmp_path / "other")
    keys = np.load(tmp_path / "index" / "row.npy")
    np.save(tmp_path / "index" / "row.npy", keys[::-1])
    with pytest.raises(ValueError, match="not strictly increasing"):
        Index.load(tmp_path / "index").query(few(1, 0))
    np.save(tmp_path / "index" / "row.npy", keys[1:])
    with pytest.raises(ValueError, match="uint64 keys"):
        Index.load(tmp_path / "index")
    (tmp_path / "index" / "index.json").write_text(json.dumps({"kind": "other"}))
    with pytest.raises(ValueError, match="does not describe"):
        Index.load(tmp_path / "index")


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="levels must be among"):
        Index(("rows",))
    with pytest.raises(ValueError, match="form must be"):
        Index(form="sorted")
    with pytest.raises(ValueError, match="no plain form"):
        Index(("set_row",), form="plain")
    with pytest.raises(ValueError, match="threads"):
        Index(threads=0).add(few(1, 0))
    with pytest.raises(ValueError, match="not in this index"):
        Index().novel(few(1, 0), "panel")
    with pytest.raises(ValueError, match="shape"):
        Index().query(np.zeros((1, 3, 9, 3), np.int8))
    with pytest.raises(ValueError, match="at least one sample"):
        Index().overlap(few(0, 0))
    assert Index.build(few(3, 0)).query(few(0, 0))["row"].shape == (0, 3)


def test_overlap_interval_covers_dependent_parts():
    """Samples copied whole or not at all: the interval must be that of n samples, not 3 n rows."""
    train, _ = genraven.generate(400, range(40), seed=0)
    fresh, _ = genraven.generate(400, range(40), seed=1)
    mixed = np.concatenate([train[:100], fresh[:300]])
    share = Index.build(train).overlap(mixed)["row"]
    assert (share["n"], share["k"], share["estimate"]) == (1200, 300, 0.25)
    assert (share["low"], share["high"]) == pytest.approx(intervals.wilson(100, 400))
    none = Index.build(train).overlap(fresh)["row"]
    assert (none["low"], none["high"]) == pytest.approx(intervals.wilson(0, 400))


@pytest.mark.parametrize(("per_rule", "panel"), [(400, 0.124), (4000, 0.366)])
def test_natural_overlap_against_published_figures(per_rule, panel):
    """Plain equality; training of the 35 rules of split 0, 20,000 fresh samples of all forty.

    Published: panel 0.124 and 0.366, single-attribute panels about 0.76, rows about 0. The panel
    figures hold to 0.005, five standard errors of ours.
    """
    rules, levels = genraven.trained(0), ("row", "panel", "attribute_panel")
    index = Index.stream(per_rule * len(rules), rules, 0, levels, form="plain")
    fresh, _ = genraven.generate(20_000, range(40), seed=1)
    overlap = index.overlap(fresh)
    assert overlap["panel"]["estimate"] == pytest.approx(panel, abs=0.005)
    assert overlap["attribute_panel"]["estimate"] == pytest.approx(0.76, abs=0.02)
    assert overlap["row"]["k"] == 0


def test_natural_overlap_in_canonical_form():
    """Training at 4,000 a rule and fresh data, both of the 35 rules of split 0: measured once.

    Rows: none of 20,000 (in 6,667 samples); a share of 2e-5 or less, so that more than 5 copies
    have probability below 1e-4. Panels agree up to the order of cells far more often than plainly.
    """
    rules = genraven.trained(0)
    index = Index.stream(4000 * len(rules), rules, 0, ("sample", "row", "set_row", "panel"))
    overlap = index.overlap(genraven.generate(6667, rules, seed=123)[0])
    assert overlap["sample"]["k"] == 0
    assert overlap["row"]["k"] <= overlap["set_row"]["k"] <= 5
    assert overlap["panel"]["estimate"] == pytest.approx(0.55, abs=0.02)


@pytest.mark.slow
def test_forty_eight_million_rows_take_under_a_gigabyte():
    """Peak resident memory of building and asking, over what the process had, in its own process.

    Keys are random words, which is what hashes of rows are.
    """
    code = """
import resource, numpy as np
from assay.rules.keytable import KeyTable
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
rng = np.random.default_rng(0)
draw = lambda: rng.integers(0, 2**64, 1 << 18, dtype=np.uint64)
warm = KeyTable(); warm.add(draw()); warm.contains(draw())
before, table, n = peak(), KeyTable(), 48_000_000
while n:
    keys = draw()[:n]; table.add(keys); n -= len(keys)
assert table.contains(keys).all() and not table.contains(draw()).any()
print(len(table.keys), table.nbytes, peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    n_keys, held, peak = map(int, done.stdout.split())
    assert n_keys == 48_000_000
    assert held < 11 * n_keys
    assert peak < 1_000_000_000
