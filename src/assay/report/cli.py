"""``assay report DIR``: one page from the Runs in a folder."""

from __future__ import annotations

from pathlib import Path


def report(folder: Path, /) -> None:
    """Write FOLDER/report.html from the Run in FOLDER or the Runs in its subfolders.

    Parameters
    ----------
    folder
        A Run's folder, or one whose subfolders are Runs.
    """
    from assay.report import pages

    print(pages.write_report(folder))
