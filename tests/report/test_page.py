"""The page is one valid HTML document that loads nothing, whatever the Runs say."""

import html.parser
import json
import re
import subprocess
import sys

import plotly.graph_objects as go
import pytest
from plotly.offline import get_plotlyjs

from assay.report import page, pages
from assay.report.blocks import Gallery, Section, Words
from assay.runs import Run

VOID = {"meta", "img", "br", "hr", "link", "input"}
HOSTILE = '<script>alert("x")</script>&<img src=x onerror=alert(1)><a href="http://e.vil">$x$</a>'
# What plotly may read as markup, all of it written by the report itself.
MARKUP = re.compile(r"<br>|<span style='color:#8a94a0'>|</span>|<extra></extra>")


class Document(html.parser.HTMLParser):
    """Tags in order, with a check that each is closed where it should be."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.words = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)

    def ids(self):
        return [attrs["id"] for _, attrs in self.tags if "id" in attrs]


@pytest.fixture(scope="module")
def demo(tmp_path_factory, kinds, write_run):
    """A page of Runs of every kind: (path, text)."""
    folder = tmp_path_factory.mktemp("demo")
    for name, (config, rows, arrays) in kinds.items():
        write_run(folder / name, config, rows, arrays)
    path = pages.write_report(folder)
    return path, path.read_text(encoding="utf-8")


def strings(value):
    """All strings of a JSON value that plotly could draw."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, list):
        for v in value:
            yield from strings(v)
    elif isinstance(value, dict):
        for v in value.values():
            yield from strings(v)


def figures(text):
    """Every figure's JSON."""
    found = re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', text, re.S)
    return [json.loads(f) for f in found]


def test_page_is_valid_and_its_anchors_exist(demo):
    document = Document(demo[1])
    ids = document.ids()
    assert len(ids) == len(set(ids))
    links = [a["href"] for tag, a in document.tags if tag == "a"]
    assert links
    assert {link[1:] for link in links} <= set(ids)
    assert all(link.startswith("#") for link in links)
    assert [a["alt"] for tag, a in document.tags if tag == "img"]


def test_page_loads_nothing(demo):
    text = demo[1]
    document = Document(text)
    for tag, attrs in document.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        assert all(v.startswith("data:") for k, v in attrs.items() if k in ("src", "data"))
        assert not [k for k in attrs if k.startswith("on")]
    own = text.replace(get_plotlyjs(), "")
    assert not re.search(r"https?://|url\(|@import|//cdn", own)
    assert "default-src 'none'" in own
    assert "connect-src" not in own


def test_page_holds_plotly_once_and_only_if_it_draws(demo, tmp_path, kinds, write_run):
    script = get_plotlyjs()
    assert demo[1].count(script) == 1
    write_run(tmp_path / "other", *kinds["other"])
    assert script not in pages.write_report(tmp_path).read_text(encoding="utf-8")


def test_figures_are_what_plotly_takes(demo):
    found = figures(demo[1])
    assert len(found) > 40
    for figure in found:
        go.Figure(figure)  # refuses unknown properties and values
        assert figure["data"]


def test_every_figure_has_a_place_and_every_place_a_figure(demo):
    ids = set(Document(demo[1]).ids())
    places = {i for i in ids if f"{i}-data" in ids}
    assert len(places) == len(figures(demo[1]))
    assert demo[1].count('class="plot"') == len(places)


def test_page_is_small(demo):
    assert len(demo[1]) - len(get_plotlyjs()) < 600_000


def test_every_section_says_which_command_makes_it_again(demo):
    sections = demo[1].split('<section id="')[1:]
    named = {s.split('"')[0]: s for s in sections}
    for name in named.keys() - {"conclusions", "rows-other"}:
        assert "Made again by <code>assay " in named[name], name
    assert (
        "assay guidance sweep --target digits --w 0,1,3,7 --label 3 --out DIR"
        in named["digits-digits"]
    )


@pytest.mark.parametrize("name", ["sweep", "digits", "dynamics", "rates", "error", "samplers",
                                  "peers", "other"])  # fmt: skip
def test_markup_in_names_is_shown_and_never_run(name, tmp_path, kinds, write_run, light):
    config, rows, arrays = kinds[name]

    def spoilt(value, column):
        if column in ("key", "kind", "rate", "error", "delta_of", "target_"):
            return value
        if column in ("law", "sampler", "solver") and value in ("constant", "conditional"):
            return value
        return HOSTILE if isinstance(value, str) else value

    dirty = [{k: spoilt(v, k) for k, v in row.items()} | {HOSTILE: HOSTILE} for row in rows]
    config = config | {"target": HOSTILE, "params": {HOSTILE: HOSTILE}}
    write_run(tmp_path / name, config, dirty, arrays)
    text = pages.write_report(tmp_path).read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<img src=x" not in text
    document = Document(text)
    assert not [a for tag, a in document.tags if tag == "img" and a.get("src") == "x"]
    for figure in figures(text):
        go.Figure(figure)
        for string in strings(figure):
            assert "<" not in MARKUP.sub("", string), string
    if name != "rates":  # whose names are all the report's own
        assert HOSTILE in "".join(document.words)


@pytest.mark.parametrize("name", ["sweep", "digits", "dynamics", "rates", "error", "samplers",
                                  "peers"])  # fmt: skip
def test_missing_columns_do_not_break_the_page(name, tmp_path, kinds, write_run, light):
    config, rows, arrays = kinds[name]
    columns = sorted({c for row in rows for c in row} - {"key"})
    run = write_run(tmp_path / name, config, rows, arrays)
    for column in columns:
        for put in ({}, {column: "words"}, {column: -1e300}):
            held = [{k: v for k, v in row.items() if k != column} | put for row in rows]
            text = page.render("t", "", pages.page([Run(run.path, config, held)]), {})
            assert text.count("<section") == text.count("</section>") > 0


@pytest.mark.parametrize("name", ["sweep", "digits", "dynamics", "rates", "error", "samplers",
                                  "peers"])  # fmt: skip
def test_rows_and_arrays_may_be_few(name, tmp_path, kinds, write_run, light):
    config, rows, arrays = kinds[name]
    bare = write_run(tmp_path / "bare", config, rows)
    one = write_run(tmp_path / "one", config, rows[:1], arrays)
    key = write_run(tmp_path / "key", config, [{"key": "a"}])
    for run in (bare, one, key):
        Document(page.render("t", "", pages.page([run]), {}))


def test_runs_without_rows_are_refused_or_named(tmp_path, kinds, write_run, light):
    write_run(tmp_path / "empty", {"kind": "guidance.sweep"}, [])
    with pytest.raises(ValueError, match="hold no rows yet; finish the job first"):
        pages.write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()
    write_run(tmp_path / "full", *kinds["samplers"])
    text = pages.write_report(tmp_path).read_text(encoding="utf-8")
    assert "have no rows yet and are not on the page: empty." in text


def test_sections_come_in_the_order_of_their_kinds(tmp_path, kinds, write_run):
    runs_ = [write_run(tmp_path / name, *kinds[name]) for name in sorted(kinds)]
    found = [s.id.split("-")[0] for s in pages.page(sorted(runs_, key=pages._order))]
    assert found == ["conclusions", "digits", "sweep", "dynamics", "rates", "error", "samplers",
                     "peers", "rows"]  # fmt: skip


def test_sections_of_one_name_get_anchors_of_their_own():
    text = page.render("t", "", [Section("a b", "x"), Section("a-b", "y"), Section("", "z")], {})
    assert Document(text).ids() == ["a-b", "a-b-2", "section"]


def test_page_says_what_made_it_and_survives_an_odd_environment():
    env = {"versions": {"assay": "0.1"}, "python": "3.11", "cpu": "<b>chip"}
    assert "assay 0.1 · Python 3.11 · &lt;b&gt;chip" in page.render("t", "", [], env)
    assert "<footer" in page.render("t", "", [Section("a", "b", blocks=[Words("c")])], {})


def test_empty_gallery_draws_nothing(light):
    Document(page.render("t", "", [Section("a", "b", blocks=[Gallery([])])], {}))


def test_report_never_imports_torch_or_a_laboratory(tmp_path, kinds, write_run):
    for name in ("sweep", "dynamics"):
        write_run(tmp_path / name, *kinds[name])
    code = (
        "import sys; from assay.report import pages; pages.write_report(sys.argv[1]); "
        "bad = [m for m in sys.modules if m in ('torch', 'scipy', 'pandas') or "
        "m.startswith(('assay.guidance', 'assay.rules', 'assay.core'))]; sys.exit(str(bad)) "
        "if bad else None"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
