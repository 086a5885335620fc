"""``assay report DIR``: prints where the page lies; every refusal is one line and exit code 2."""

import pytest

from assay import cli


@pytest.fixture(autouse=True)
def _light(light):
    """Plotly's script is the same in every page."""


def refused(tokens, capsys):
    assert cli.main(tokens) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


def test_report_prints_the_path_of_one_run_or_of_many(tmp_path, kinds, write_run, capsys):
    write_run(tmp_path / "one", *kinds["samplers"])
    for folder in (tmp_path / "one", tmp_path):
        assert cli.main(["report", str(folder)]) == 0
        assert capsys.readouterr().out == f"{folder / 'report.html'}\n"
        assert (folder / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert not list(tmp_path.rglob("*.part"))


def test_report_again_gives_the_same_page(tmp_path, kinds, write_run, capsys):
    write_run(tmp_path / "run", *kinds["sweep"])
    pages = []
    for _ in range(2):
        assert cli.main(["report", str(tmp_path)]) == 0
        pages.append((tmp_path / "report.html").read_bytes())
    assert pages[0] == pages[1]


def test_report_refuses_what_holds_no_rows(tmp_path, write_run, capsys):
    assert "no such folder" in refused(["report", str(tmp_path / "none")], capsys)
    assert "holds no Run" in refused(["report", str(tmp_path)], capsys)
    (tmp_path / "file").write_text("x")
    assert "file" in refused(["report", str(tmp_path / "file")], capsys)
    write_run(tmp_path / "run", {"kind": "guidance.sweep"}, [])
    assert "hold no rows yet" in refused(["report", str(tmp_path)], capsys)


def test_report_refuses_a_corrupt_run_by_its_file(tmp_path, kinds, write_run, capsys):
    write_run(tmp_path / "run", *kinds["samplers"])
    path = tmp_path / "run" / "rows.jsonl"
    path.write_bytes(b"{oops\n" + path.read_bytes())
    assert "rows.jsonl: line 1 is corrupt" in refused(["report", str(tmp_path)], capsys)


def test_report_that_cannot_be_written_leaves_nothing(tmp_path, kinds, write_run, capsys):
    write_run(tmp_path / "run", *kinds["samplers"])
    (tmp_path / "report.html" / "full").mkdir(parents=True)
    assert "report.html: cannot be written" in refused(["report", str(tmp_path)], capsys)
    assert not list(tmp_path.glob("*.part"))
