"""The built book and a browser for it. Where one is missing, tests skip; under CI they fail."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

SITE = Path(__file__).parents[2] / "_build/html"
BROWSERS = ["chromium", "chromium-browser", "google-chrome", "chrome"]
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def unavailable(reason: str) -> None:
    """Skip with the reason; under CI, where everything must be there, fail."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="package")
def site() -> Path:
    if not (SITE / "book/index.html").is_file():
        unavailable(f"no built book at {SITE}: run `make book` first")
    return SITE


@pytest.fixture(scope="package")
def browser(site: Path) -> Browser:
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        unavailable("Chromium is not installed: the book's pages cannot be opened")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()
