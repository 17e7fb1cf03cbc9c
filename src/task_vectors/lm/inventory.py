"""What each model that comes with pip needs, and how much of it is there."""

import pandas as pd

from task_vectors.lm.bundled import (
    BUNDLED,
    CONVERTED,
    ModelError,
    conversion_memory,
    converted_folder,
    intact,
    package_files,
)


def inventory(check: bool = False) -> pd.DataFrame:
    """A row for each model: state, weights (millions), disk and memory (GB), minutes to convert.

    The state is "not installed", with the command that mends it, "installed" (converted at its first use), "ready", or
    "damaged" (converted anew at its next use); with `check` every bit of a converted model is compared.
    """
    rows = []
    for name, bundled in BUNDLED.items():
        size = 4e-9 * bundled.weights  # GB in float32
        rows.append(
            {
                "model": name,
                "state": _state(name, check),
                "weights": f"{bundled.weights / 1e6:.0f} M",
                "disk": f"{size:.1f} GB",
                "to convert": f"{conversion_memory(name) / 1e9:.1f} GB, "
                + " to ".join(f"{bundled.weights / speed / 60:.1f}" for speed in reversed(CONVERTED))
                + " min",
                "float32": f"{size:.1f} GB",
                "bfloat16": f"{size / 2:.1f} GB",
                "what it is": bundled.card,
            }
        )
    return pd.DataFrame(rows)


def _state(name: str, check: bool) -> str:
    folder = converted_folder(name)
    if folder.is_dir():
        return "ready" if intact(folder, whole=check) else "damaged"
    try:
        package_files(name)
    except ModelError:
        return f"not installed: {BUNDLED[name].install}"
    return "installed"
