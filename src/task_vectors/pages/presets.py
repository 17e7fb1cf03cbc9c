"""Presets: named sets of parameters, one mapping of notebooks to their parameters a file."""

from pathlib import Path

from task_vectors.pages.parameters import check_values, closest, cut, read_parameters
from task_vectors.pages.reading import ParameterError, read_yaml


def read_preset(name: str, root: Path) -> dict[str, dict[str, object]]:
    """What workflow/presets/<name>.yaml below `root` gives each notebook that it names, all of it checked.

    Raises ParameterError, which names the file, for anything but a mapping of notebooks that there are to values of
    parameters that they have.
    """
    presets = {path.stem: path for path in sorted((root / "workflow" / "presets").glob("*.yaml"))}
    if name not in presets:
        raise ParameterError(f"unknown preset {cut(repr(name))}; there are: {', '.join(presets)}")
    where = presets[name].relative_to(root)
    try:
        content = read_yaml(presets[name].read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ParameterError(f"{where} cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise ParameterError(f"{where} must be a mapping of notebooks to their parameters")
    notebooks = {path.stem: path for path in sorted((root / "notebooks").glob("*.ipynb"))}
    checked = {}
    for notebook, values in content.items():
        if notebook not in notebooks:
            hint = closest(str(notebook), notebooks)
            raise ParameterError(f"{where}: no notebook {cut(repr(notebook))}{hint}; there are: {', '.join(notebooks)}")
        if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
            raise ParameterError(f"{where}, {notebook}: must be a mapping of parameters to their values")
        try:
            checked[notebook] = check_values(values, read_parameters(notebooks[notebook]))
        except ParameterError as error:
            raise ParameterError(f"{where}, {notebook}: {error}") from None
    return checked
