"""The command line. Every error a user can cause is one line on stderr and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from cyclopts import App
from cyclopts.exceptions import CycloptsError

app = App(
    name="assay",
    help="Tests a generative model before anyone relies on it: how hard may it be guided, "
    "and does it learn the rules in the data?",
    version_flags=["--version"],
    help_format="plaintext",
)
app.command("assay.demo:demo", name="demo", help="Run both laboratories and write one report.")
app.command(
    "assay.guidance.cli:app", name="guidance", help="Laboratory 1: what guidance really does."
)
app.command("assay.rules.cli:app", name="rules", help="Laboratory 2: the forty rules of GenRAVEN.")
app.command(
    "assay.studies.cli:app", name="studies", help="Both laboratories at once: guided rules."
)
app.command("assay.report.cli:report", name="report", help="Write report.html from Runs.")


def main(tokens: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    try:
        result = app(
            sys.argv[1:] if tokens is None else tokens,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
        if isinstance(result, Path):  # a Run that wants its page
            from assay.report import pages

            print(f"page: {pages.write_report(result)}", file=sys.stderr)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except CycloptsError as error:
        return _refuse(str(error))
    except (ValueError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of our output went away
            sys.stderr.close()
            return 0
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("assay: stopped; the same command goes on from here", file=sys.stderr)
        return 130


def _refuse(message: str) -> int:
    lines = [line.strip(" │╭╮╰╯─") for line in message.splitlines()]
    print("assay: " + " ".join(line for line in lines if line), file=sys.stderr)
    return 2


def run() -> None:
    """Entry point of the ``assay`` script."""
    raise SystemExit(main())
