import pytest

from task_vectors.experiments.registry import EXPERIMENTS, get_experiment
from task_vectors.paths import project_root
from task_vectors.records import digest
from task_vectors.records.digest import rests_on, source_digest
from task_vectors.records.store import Experiment, all_records

FILES = {
    "experiments/a.py": "from task_vectors import b\nfrom task_vectors.tasks import lexical",
    "b.py": "x = 1",
    "c.py": "y = 1",
    "chosen.py": "from task_vectors import d",
    "d.py": "w = 1",
    "records/store.py": "z = 1",
    "tasks/lexical.py": "path = 'data/tasks'",
    "kernels/sum/triton.py": "",
    "__init__.py": "",
}


@pytest.fixture
def project(monkeypatch, tmp_path):
    for name, text in FILES.items():
        (tmp_path / "src" / "task_vectors" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "src" / "task_vectors" / name).write_text(text)
    (tmp_path / "data" / "tasks").mkdir(parents=True)
    for name in ("mine", "other"):
        (tmp_path / "data" / "tasks" / f"{name}.csv").write_text("x,y\n")
    monkeypatch.setattr(digest, "project_root", lambda: tmp_path)
    yield tmp_path
    forget()


def forget():
    """As in a process that begins."""
    digest._digest_of.cache_clear()
    digest._files.cache_clear()


def experiment(chosen=()):
    run = lambda: {}  # noqa: E731
    run.__module__ = "task_vectors.experiments.a"
    return Experiment("a", 1, run, lambda record: [], lambda parameters: chosen)


def after(project, name, text, chosen=()):
    """The digest with another text in a file."""
    path = project / name
    before = path.read_text()
    path.write_text(text)
    forget()
    found = source_digest(experiment(chosen), {})
    path.write_text(before)
    return found


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("src/task_vectors/experiments/a.py", True),
        ("src/task_vectors/b.py", True),
        ("src/task_vectors/c.py", False),
        ("src/task_vectors/records/store.py", False),
        ("src/task_vectors/__init__.py", False),
        ("src/task_vectors/chosen.py", True),
        ("src/task_vectors/d.py", True),
        ("data/tasks/mine.csv", True),
        ("data/tasks/other.csv", False),
    ],
)
def test_what_counts_is_imported_or_chosen_by_a_parameter(project, name, counts):
    chosen = ("src/task_vectors/chosen.py", "data/tasks/mine.csv")
    text = (project / name).read_text()
    same = after(project, name, text, chosen)
    assert (after(project, name, text + "# a comment", chosen) != same) == counts
    assert after(project, name, text.replace("\n", "\r\n"), chosen) == same


def test_the_kernels_of_a_gpu_count_where_there_is_one(project, monkeypatch):
    chosen = ("src/task_vectors/kernels/sum/triton.py",)
    for gpu in (False, True):
        monkeypatch.setattr("torch.cuda.is_available", lambda gpu=gpu: gpu)
        changes = after(project, chosen[0], "1", chosen) != after(project, chosen[0], "2", chosen)
        assert changes == gpu


def test_a_table_that_is_not_there_is_left_to_the_experiment(project):
    assert len(source_digest(experiment(("data/tasks/none.csv",)), {})) == 64


@pytest.fixture(scope="module")
def rests():
    """Of each committed record: its experiment, its parameters, and the files that it rests on."""
    records = list(all_records(project_root() / "data" / "recorded"))
    return [(r.experiment, r.parameters, rests_on(get_experiment(r.experiment), r.parameters)) for r in records]


def test_a_change_to_fine_tuning_asks_for_what_is_fine_tuned(rests):
    asked = {name for name, _, files in rests if "src/task_vectors/lm/finetuning.py" in files}
    assert "band_tuning" in asked
    others = {
        "bijections",
        "emergence",
        "prediction",
        "intervention",
        "linear_transformer",
        "pretraining",
        "first_look",
    }
    assert not asked & others


def test_a_record_of_one_family_rests_on_no_other(rests):
    families = "src/task_vectors/tasks/families"
    grammar = {f"{families}/grammar.py", "data/tasks/families/pos_lexicon.csv"}
    seen = set()
    for _, parameters, files in rests:
        if "family" in parameters and "tests" not in parameters:
            seen.add(parameters["family"])
            assert (f"{families}/bitwise.py" in files) == (parameters["family"] == "bitwise")
            assert (grammar <= set(files)) == bool(grammar & set(files)) == (parameters["family"] != "bitwise")
    assert seen >= {"bitwise", "pos"}


def test_a_record_of_a_task_rests_on_its_tables_alone(rests):
    tables = {
        (parameters["task"], parameters["form"]): [file for file in files if file.startswith("data/")]
        for name, parameters, files in rests
        if name == "bijections"
    }
    assert tables["to_upper", "X ↔ Y"] == []
    assert tables["english_to_french", "Y → X"] == ["data/tasks/english_to_french.csv"]
    both = ["data/tasks/english_to_french.csv", "data/tasks/present_to_gerund.csv"]
    assert tables["english_to_french", "union"] == both


def test_no_record_rests_on_what_only_keeps_it_or_on_kernels_for_a_gpu(rests, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    forget()
    for name in EXPERIMENTS.keys() - {"trial"}:
        module = f"src/{get_experiment(name).module.replace('.', '/')}.py"
        sources = digest._files((module,))
        assert module in sources
        assert not [file for file in sources if "/records/" in file or "registry" in file or "triton" in file]
