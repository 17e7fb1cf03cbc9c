"""Where the project lies: data/, notebooks/ and workflow/ stand beside the package, not inside it."""

from functools import cache
from pathlib import Path


@cache
def project_root() -> Path:
    """The folder with pyproject.toml, data/ and notebooks/; FileNotFoundError where the package lies without it."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "pyproject.toml").is_file():
        raise FileNotFoundError(
            f"task_vectors lies at {Path(__file__).parent}, away from the project's data/ and notebooks/: "
            "clone the repository and install it there with `pip install --no-deps -e .`"
        )
    return root
