"""The built book."""

from pathlib import Path

import pytest
from chromium import unavailable

SITE = Path(__file__).parents[2] / "_build/html"


@pytest.fixture(scope="package")
def site() -> Path:
    if not (SITE / "book/index.html").is_file():
        unavailable(f"no built book at {SITE}: run `make book` first")
    return SITE
