"""Made tables in a document, each between <!-- table: NAME --> and <!-- end of table -->."""

from collections.abc import Callable
from pathlib import Path

from assay.runs import write_aside

END = "<!-- end of table -->"


def put(document: Path, name: str, make: Callable[[], str]) -> bool:
    """Write one table, whole or not at all; whether the document has such a mark."""
    begin = f"<!-- table: {name} -->\n"
    before, mark, rest = document.read_text(encoding="utf-8").partition(begin)
    if mark:
        write_aside(document, f"{before}{begin}{make()}\n{END}{rest.partition(END)[2]}".encode())
    return bool(mark)
