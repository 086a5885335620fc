"""The demo: refused folders leave nothing behind; the whole of it makes a page and resumes."""

import json
import signal
import subprocess
import sys
import time

import pytest

import assay
from assay import demo
from assay.cli import main


def test_demo_studies_have_a_section_each_and_json_configs():
    from assay.report.pages import SECTIONS

    studies = demo.studies()
    assert len({s.name for s in studies}) == len(studies)
    for study in studies:
        assert study.config["kind"] in SECTIONS
        assert json.loads(json.dumps(study.config)).keys() == study.config.keys()


def test_demo_refuses_a_file_in_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    assert main(["demo", "--out", str(tmp_path / "file")]) == 2
    said = capsys.readouterr()
    assert "is a file" in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.slow
def test_demo_resumes_after_kill_and_writes_its_page(tmp_path):
    command = [sys.executable, "-m", "assay", "demo", "--out", str(tmp_path)]
    job = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(15)
    import os

    os.killpg(job.pid, signal.SIGKILL)
    job.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"report: {tmp_path / 'report.html'}"
    for study in demo.studies():
        rows = assay.open(tmp_path / study.name).rows
        assert len({r["key"] for r in rows}) == len(rows) > 0
    page = (tmp_path / "report.html").read_text()
    assert "What to conclude" in page
    start = time.monotonic()
    subprocess.run(command, capture_output=True, check=True)
    assert time.monotonic() - start < 60  # nothing is computed again
