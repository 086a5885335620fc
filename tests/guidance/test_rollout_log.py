"""The audit log: every edit and every truncation is found, a kill loses nothing acknowledged."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay.guidance.rollouts import log as rollout_log
from assay.guidance.rollouts.log import Log, Memory, verify
from assay.guidance.rollouts.rollout import Rollout

GUARDS = ["off at most 0.1", "quality at least 0.5"]


@pytest.fixture
def log(tmp_path):
    """A log of five entries and its head."""
    log = Log(tmp_path / "log.jsonl")
    with log.locked():
        for i in range(5):
            log.append([("observed", {"i": i, "x": [0.1 * i, None], "name": "é<b>"})])
    return log.path, log.head


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """The bytes of a log of three short entries, and its head."""
    log = Log(tmp_path_factory.mktemp("log") / "log.jsonl")
    for i in range(3):
        log.append([("held", {"i": i})])
    return log.path.read_bytes(), log.head


def found(data, head):
    """Whether the check of these bytes says that something is wrong."""
    try:
        rollout_log.verified("log.jsonl", data, head)
    except ValueError:
        return True
    return False


def refused(path, head):
    with pytest.raises(ValueError, match=r"log\.jsonl|head") as caught:
        verify(path, head)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_log_verifies_and_later_entries_are_counted(log):
    path, head = log
    assert verify(path, head) == rollout_log.Verified(5, head, 0, 0)
    again = Log(path)
    assert [e["data"]["i"] for e in again.read()] == list(range(5))
    again.append([("held", {}), ("resumed", {})])
    assert verify(path, head).after == 2
    assert verify(path, head.upper()).head == again.head


def test_every_single_byte_edit_is_found(short):
    data, head = short
    rng = random.Random(0)
    assert not found(data, head)
    for place in range(len(data)):
        for new in {data[place] ^ 1, data[place] ^ 0x20, rng.randrange(256)} - {data[place]}:
            assert found(data[:place] + bytes([new]) + data[place + 1 :], head), (place, new)


def test_every_inserted_and_every_removed_byte_is_found(short):
    data, head = short
    for place in range(len(data)):
        assert found(data[:place] + data[place + 1 :], head), place
        assert found(data[:place] + b" " + data[place:], head), place


def test_every_truncation_is_found_given_the_head(short):
    data, head = short
    assert all(found(data[:length], head) for length in range(len(data)))


def test_removed_repeated_and_reordered_lines_are_found(log):
    path, head = log
    lines = path.read_bytes().splitlines(keepends=True)
    for i in range(5):
        said = "cut off" if i == 4 else "does not follow|inserted or moved"
        path.write_bytes(b"".join(lines[:i] + lines[i + 1 :]))
        with pytest.raises(ValueError, match=said):
            verify(path, head)
        path.write_bytes(b"".join(lines[: i + 1] + lines[i:]))
        refused(path, head)
        for j in range(i):
            moved = list(lines)
            moved[i], moved[j] = moved[j], moved[i]
            path.write_bytes(b"".join(moved))
            refused(path, head)


def test_a_rewritten_chain_is_found_by_its_head(log, tmp_path):
    path, head = log
    forged = Log(tmp_path / "forged.jsonl")
    for entry in Log(path).read():
        forged.append([(entry["kind"], {**entry["data"], "i": 9})])
    verify(forged.path, forged.head)
    os.replace(forged.path, path)
    assert "not among them" in refused(path, head)


def test_equal_json_of_another_spelling_is_found(log):
    path, head = log
    text = path.read_text()
    for old, new in (('"i":1', '"i":1.0'), ("\\u00e9", "é"), (',"kind"', ', "kind"'),
                     ('"seq":2', '"seq":true')):  # fmt: skip
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        assert "edited" in refused(path, head)


finite = st.floats(allow_nan=False, allow_infinity=False)
scalars = st.none() | st.booleans() | st.integers() | finite | st.text()


@settings(max_examples=20, deadline=None)
@given(st.dictionaries(st.text(max_size=8), scalars | st.lists(scalars), max_size=4))
def test_entries_of_any_data_are_read_back(data):
    memory = Memory()
    (entry,) = memory.append([("observed", data)])
    line = rollout_log.canonical(entry) + "\n"
    (again,) = rollout_log.entries("log", line.encode())
    assert again == entry
    assert again["data"] == json.loads(json.dumps(data))


def test_unfinished_last_line_does_not_count_and_is_cut_off(log):
    path, head = log
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"data":{"i":5')
    assert verify(path, head) == rollout_log.Verified(5, head, 0, 14)
    again = Log(path)
    again.read()
    again.append([("held", {})])
    assert path.read_bytes().startswith(whole)
    assert verify(path, head) == rollout_log.Verified(6, again.head, 1, 0)


@pytest.mark.parametrize(("head", "words"), [
    ("", "64 hexadecimal digits"), ("abc", "64 hexadecimal"), ("g" * 64, "64 hexadecimal"),
    ("0" * 64, "not among them"),
])  # fmt: skip
def test_head_that_is_none_is_refused(log, head, words):
    with pytest.raises(ValueError, match=words):
        verify(log[0], head)


def test_missing_log_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such log"):
        verify(tmp_path / "none.jsonl", "0" * 64)
    with pytest.raises(ValueError, match="rollout start"):
        Rollout.open(tmp_path / "none.jsonl")


def test_log_cut_off_while_in_use_is_noticed(tmp_path):
    path = tmp_path / "log.jsonl"
    rollout = Rollout([0, 1], GUARDS, log=path)
    rollout.observe({"off": 0, "quality": 0.9})
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0])
    with pytest.raises(ValueError, match="cut off while in use"):
        rollout.observe({"off": 0, "quality": 0.9})
    path.write_bytes(b"")
    path.unlink()
    with pytest.raises(ValueError, match="removed while in use"):
        rollout.decide()


WRITER = """
import sys
from assay.guidance.rollouts.rollout import Rollout
rollout = Rollout.open(sys.argv[1])
for i in range(int(sys.argv[2])):
    decision = rollout.observe([{"off": 0, "quality": 0.55 + 0.001 * (i % 7)}])
    print(rollout.head, decision.used, flush=True)
"""


def _writer(path, n):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), str(n)], stdout=subprocess.PIPE, text=True
    )


def test_two_writers_lose_no_row(tmp_path):
    path = tmp_path / "log.jsonl"
    Rollout([0, 1], ["off at most 0.001", "quality at least 0.5"], log=path)
    writers = [_writer(path, 15) for _ in range(2)]
    said = [w.communicate(timeout=120)[0].split("\n")[:-1] for w in writers]
    assert [w.returncode for w in writers] == [0, 0]
    heads = [line.split()[0] for lines in said for line in lines]
    assert len(heads) == len(set(heads)) == 30
    for head in heads:
        verify(path, head)
    assert [line.split()[1] for lines in said for line in lines] == ["1"] * 30
    reading = Rollout.read(path).standing().guards[0]
    assert reading["n"] == 30


def test_rows_made_at_an_older_weight_are_ignored(tmp_path):
    path = tmp_path / "log.jsonl"
    one = Rollout([0, 1, 2], GUARDS, log=path)
    two = Rollout.open(path)
    good = [{"off": 0, "quality": 0.9}] * 200
    assert one.observe(good).action == "promote"
    assert two.w == 0
    late = two.observe(good)
    assert (late.action, late.used, late.w) == ("ignore", 0, 1)
    assert "made at w = 0" in late.reason
    assert two.w == 1
    assert two.observe(good).w == 2
    assert one.decide().w == 2


def kills(tmp_path, times):
    """Kill a writer again and again; every head that it printed must still be in the log."""
    path = tmp_path / "log.jsonl"
    Rollout([0, 1], ["off at most 0.001", "quality at least 0.5"], log=path)
    rng, acknowledged = random.Random(1), 0
    for _ in range(times):
        writer = _writer(path, 100_000)
        assert writer.stdout
        first = writer.stdout.readline()  # it is writing now
        time.sleep(rng.random() * 0.2)
        os.kill(writer.pid, signal.SIGKILL)
        lines = [first, *writer.communicate()[0].splitlines()]
        acknowledged += len(lines)
        for line in lines[-2:]:
            verify(path, line.split()[0])
        reading = Rollout.open(path).standing().guards[0]
        assert acknowledged <= reading["n"] <= acknowledged + 1  # the one in the making
        acknowledged = reading["n"]


def test_a_kill_loses_nothing_acknowledged(tmp_path):
    kills(tmp_path, 1)


@pytest.mark.slow
def test_thirty_kills_lose_nothing_acknowledged(tmp_path):
    kills(tmp_path, 30)


def test_reader_does_not_write(tmp_path):
    path = tmp_path / "log.jsonl"
    Rollout([0, 1], GUARDS, log=path)
    before, reader = path.read_bytes(), Rollout.read(path)
    assert reader.w == 0
    with pytest.raises(ValueError, match="opened for reading"):
        reader.observe({"off": 0})
    assert path.read_bytes() == before


@pytest.mark.parametrize("items", [
    [("held", {})], [("opened", {})], [("opened", {"stages": 3})],
    [("opened", "PLAN"), ("observed", {})], [("opened", "PLAN"), ("promoted", {})],
    [("opened", "PLAN"), ("observed", {"columns": {"off": [0]}})],
])  # fmt: skip
def test_chained_entries_that_are_no_rollout_are_refused(tmp_path, items):
    plan = Rollout([0, 1], GUARDS).plan.data()
    log = Log(tmp_path / "log.jsonl")
    log.append([(kind, plan if data == "PLAN" else data) for kind, data in items])
    with pytest.raises(ValueError, match="does not"):
        Rollout.read(log.path)


@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_decision_that_a_kill_kept_from_the_log_is_made_up_for(tmp_path, keep):
    path = tmp_path / "log.jsonl"
    whole = Rollout([0, 1], GUARDS, log=path)
    decision = whole.observe([{"off": 0, "quality": 0.9}] * 200)
    assert decision.action == "promote"
    *lines, last = path.read_bytes().splitlines(keepends=True)
    assert json.loads(last)["kind"] == "promoted"
    path.write_bytes(b"".join(lines) + last[: int(keep * len(last))])
    again = Rollout.open(path)
    kinds = [json.loads(line)["kind"] for line in path.read_text().splitlines()]
    assert kinds == ["opened", "observed", "promoted", "resumed"]
    assert (again.w, again.state, again.good_w) == (1, "testing", 0)
    assert again.standing().reason == whole.standing().reason
