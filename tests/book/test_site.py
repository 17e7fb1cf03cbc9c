"""The built book as a reader meets it: opened from its folder, with no network."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, ElementHandle, Page

TOC = yaml.safe_load((Path(__file__).parents[2] / "_toc.yml").read_text(encoding="utf-8"))
PAGES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
NOTEBOOKS = [page for page in PAGES if page.startswith("executed/")]
LOCAL = ("file:", "data:", "blob:")


@dataclass
class Visit:
    """A page that was opened, and what went wrong on the way."""

    page: Page
    foreign: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@contextmanager
def visit(browser: Browser, path: Path, width: int = 1400, javascript: bool = True) -> Iterator[Visit]:
    """Open a file of the site and, with JavaScript, wait until its charts are drawn and its formulas set."""
    context = browser.new_context(viewport={"width": width, "height": 900}, java_script_enabled=javascript)
    visited = Visit(context.new_page())
    page = visited.page
    page.on("request", lambda request: request.url.startswith(LOCAL) or visited.foreign.append(request.url))
    page.on("requestfailed", lambda request: visited.problems.append(f"failed: {request.url}"))
    page.on("pageerror", lambda error: visited.problems.append(f"page error: {error}"))
    page.on(
        "console", lambda line: line.type in ("error", "warning") and visited.problems.append(f"console: {line.text}")
    )
    page.goto(path.as_uri())
    if javascript:
        for chart in page.query_selector_all("figure.tv-chart"):
            wait_until_drawn(chart)
        page.wait_for_function("!window.MathJax?.startup?.promise || MathJax.startup.promise.then(() => true)")
    yield visited
    context.close()


def wait_until_drawn(chart: ElementHandle) -> None:
    chart.scroll_into_view_if_needed()
    # The figure tells what went wrong, a time-out would not.
    chart.evaluate("""figure => new Promise((resolve, reject) => {
        const deadline = performance.now() + 20000;
        const look = () => {
            if (figure.dataset.ready) resolve();
            else if (figure.dataset.error) reject(new Error(figure.dataset.error));
            else if (performance.now() > deadline) reject(new Error(`chart ${figure.id} was not drawn in 20 s`));
            else setTimeout(look, 50);
        };
        look();
    })""")


def path_of(site: Path, page: str) -> Path:
    return site / f"{page}.html"


@pytest.fixture(scope="module", params=PAGES)
def opened(request, browser, site) -> Iterator[Visit]:
    """Each page once, on a wide screen, for all tests that only look."""
    with visit(browser, path_of(site, request.param)) as opened:
        yield opened


def test_page_needs_no_network_and_raises_no_error(opened):
    assert opened.foreign == []
    assert opened.problems == []
    assert opened.page.query_selector("article h1")


def test_formulas_are_set(opened):
    formulas = opened.page.query_selector_all("article .math")
    assert [formula.inner_text() for formula in formulas if not formula.query_selector("mjx-container")] == []
    assert [error.inner_text() for error in opened.page.query_selector_all("mjx-merror")] == []


def test_pictures_have_alt_texts(opened):
    images = opened.page.query_selector_all("img")
    assert [image.get_attribute("src") for image in images if not image.get_attribute("alt")] == []
    charts = opened.page.query_selector_all("figure.tv-chart")
    described = "[role=graphics-document][aria-label]"
    assert [chart.get_attribute("id") for chart in charts if not chart.query_selector(described)] == []


def test_chart_script_is_loaded_only_where_there_is_a_chart(opened):
    script = opened.page.query_selector("script[src*='charts.js']")
    assert bool(script) == bool(opened.page.query_selector("figure.tv-chart"))


@pytest.mark.parametrize("name", PAGES)
def test_phone_does_not_scroll_sideways(browser, site, name):
    with visit(browser, path_of(site, name), width=390) as opened:
        assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_charts_are_there_without_javascript(browser, site, name):
    with visit(browser, path_of(site, name), javascript=False) as opened:
        pictures = opened.page.query_selector_all("figure.tv-chart [role=img][aria-label] > svg")
        assert pictures, "a chapter without a chart"
        assert len(pictures) == len(opened.page.query_selector_all("figure.tv-chart"))
        for picture in pictures:
            box = picture.bounding_box()
            assert box["width"] > 100
            assert box["height"] > 50
            assert picture.query_selector("[role^=graphics-symbol]"), "a picture without marks"


def test_search_works_from_a_folder(browser, site):
    with visit(browser, site / "search.html") as opened:
        opened.page.goto(f"{(site / 'search.html').as_uri()}?q=vector")
        opened.page.wait_for_selector("#search-results ul.search li a", timeout=10_000)
        assert opened.foreign == []
        assert opened.problems == []


def interactive_charts(site: Path, kind: str) -> list[tuple[str, str]]:
    """(page, figure id) of the charts with a legend to click ("legend") or an input to move ("range")."""
    found = []
    for name in PAGES:
        html = path_of(site, name).read_text(encoding="utf-8")
        for figure, spec in re.findall(
            r'<figure class="tv-chart" id="([^"]+)".*?<script type="application/json">(.*?)</script>', html, re.DOTALL
        ):
            bindings = [param.get("bind") for param in json.loads(spec).get("params", [])]
            if any(bind == kind or (isinstance(bind, dict) and bind.get("input") == kind) for bind in bindings):
                found.append((name, figure))
    return found


# What a reader sees of the data: every mark's place, shape, color and opacity, but not the legend.
MARKS = "figure => [...figure.querySelectorAll('.role-mark')].map(mark => mark.outerHTML).join('')"


def test_a_click_or_a_slider_changes_the_marks(browser, site):
    legends, sliders = interactive_charts(site, "legend"), interactive_charts(site, "range")
    assert legends or sliders, "no chart of the book answers to a click or a slider"
    for name, figure_id in legends + sliders:
        with visit(browser, path_of(site, name)) as opened:
            figure = opened.page.query_selector(f"figure#{figure_id}")
            before = figure.evaluate(MARKS)
            if (name, figure_id) in legends:
                figure.query_selector(".role-legend-symbol path").click(force=True)
            else:
                figure.query_selector("input[type=range]").press("ArrowRight")
            changed = "({figure, before}) => (" + MARKS + ")(figure) !== before"
            opened.page.wait_for_timeout(300)
            assert opened.page.evaluate(changed, {"figure": figure, "before": before}), f"{figure_id} on {name}"
            assert opened.problems == []
