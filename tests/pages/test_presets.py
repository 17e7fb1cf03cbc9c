import pytest
from notebook_files import write_notebook

from task_vectors.pages.presets import read_preset
from task_vectors.pages.reading import ParameterError


@pytest.fixture
def root(tmp_path):
    write_notebook(
        tmp_path / "notebooks/07_seven.ipynb", "n: int = 1  # how many; at least 1\nrate: float = 0.5  # of it"
    )
    write_notebook(tmp_path / "notebooks/08_eight.ipynb", "n: int = 1  # how many")
    (tmp_path / "workflow/presets").mkdir(parents=True)
    return tmp_path


def write_preset(root, content):
    (root / "workflow/presets/small.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())


def test_a_preset_gives_each_notebook_its_values(root):
    write_preset(root, "07_seven: {n: 2, rate: 1}\n08_eight: {}\n")
    values = read_preset("small", root)
    assert values == {"07_seven": {"n": 2, "rate": 1.0}, "08_eight": {}}
    assert isinstance(values["07_seven"]["rate"], float)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "must be a mapping of notebooks"),
        ("[07_seven]", "must be a mapping of notebooks"),
        ("07_seven", "must be a mapping of notebooks"),
        ("07_seven: [n, 2]", "07_seven: must be a mapping of parameters"),
        ("07_seven:", "07_seven: must be a mapping of parameters"),
        ("07_seven: {3: 4}", "07_seven: must be a mapping of parameters"),
        ("3: {}", "no notebook 3; there are: 07_seven, 08_eight"),
        ("07_sevn: {n: 2}", "no notebook '07_sevn'; did you mean '07_seven'?"),
        ("07_seven: {m: 2}", "07_seven: unknown parameter 'm'"),
        ("07_seven: {n: many}", "07_seven: parameter 'n' must be int, at least 1, got 'many'"),
        ("07_seven: {n: 0}", "07_seven: parameter 'n' must be int, at least 1, got 0"),
        ("07_seven: {rate: .nan}", "07_seven: parameter 'rate' takes finite numbers"),
        ("07_seven: {rate: 1" + 400 * "0" + "}", "07_seven: parameter 'rate' takes finite numbers"),
        ("08_eight: {n: 1}\n08_eight: {n: 2}", "cannot be read: '08_eight' stands there a second time"),
        ("07_seven: {n: 1, n: 2}", "cannot be read: 'n' stands there a second time"),
        ("07_seven: {n: !!python/name:os.system ''}", "cannot be read: could not determine a constructor"),
        ("07_seven: {n: 1", "cannot be read: "),
        (b"\xff\xfe\xfa", "cannot be read: "),
    ],
    ids=str,
)
def test_anything_else_is_one_line_that_names_the_file(root, content, message):
    write_preset(root, content)
    with pytest.raises(ParameterError) as caught:
        read_preset("small", root)
    assert str(caught.value).startswith("workflow/presets/small.yaml")
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400


def test_an_unknown_preset_is_named(root):
    write_preset(root, "{}")
    with pytest.raises(ParameterError, match="unknown preset 'smoky'; there are: small"):
        read_preset("smoky", root)
