"""The page: every figure is the bundle's, every text is translated, and it needs nothing else."""

import ast
import base64
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from babel.messages.extract import extract_from_dir

from alih.errors import Refused
from alih.evidence.bundle import Bundle
from alih.report import make
from alih.report.asked import STATEMENTS
from alih.report.wording import LANGUAGES, catalog
from tests.support import recompute
from tests.unit.report.entries import COHORTS, KEY, RULES, TESTED, Story, told

SOURCE = Path(__file__).parents[3] / "src" / "alih"


def begun() -> Story:
    story = Story()
    story.begin(KEY.vkey, "2024-04-12T23:59:59+07:00")
    return story


def half_way() -> Story:
    """One cohort has moved, nobody has matched, compared or scored anything; a command was not answered."""
    story = begun()
    story.buy("first", "before")
    story.move("first", [*COHORTS["first"], TESTED["first"]])
    story.tell("approval", command="cutover", argument="tenth", by="sri")
    return story


STORIES = {"begun": begun(), "half way": half_way(), "whole": told(), "failing": told(failing=True)}


@cache
def page_of(name: str, language: str) -> str:
    return make(STORIES[name].bundle(), language)


CASES = [(name, language) for name in STORIES for language in LANGUAGES]


@pytest.mark.parametrize(("name", "language"), CASES)
def test_a_script_without_alih_computes_every_figure_again(name: str, language: str) -> None:
    story = STORIES[name]
    page = page_of(name, language)
    assert recompute.differences(story.text(), page) == []
    assert len(recompute.Page(page).shown) > 20


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_number_is_shown_that_is_not_a_figure(language: str) -> None:
    page = page_of("failing", language)
    marked = r"<(style|script|svg|code|head|data|time|i|q)\b.*?</\1>"
    for pattern in (marked, r'<th scope="row">.*?</th>', r'<td class="asks">.*?</td>', r"SHA-256"):
        page = re.sub(pattern, "", page, flags=re.DOTALL)
    assert set(re.findall(r"\d[\d.,]*", re.sub(r"<[^>]*>", " ", page))) <= {"100", "100."}  # points are of 100


def test_the_script_finds_what_was_changed_on_the_page_or_in_the_bundle() -> None:
    story = STORIES["whole"]
    page = make(story.bundle(), "en")
    changed = page.replace('data-figure="trials.passed" value="24"', 'data-figure="trials.passed" value="25"', 1)
    assert recompute.differences(story.text(), changed) == ["trials.passed: the page shows 25"]
    bundle = story.text().replace('"proven":14,', '"proven":13,').replace('"population":436', '"population":437')
    assert recompute.differences(bundle, page) == [
        "audit.population: the page shows 436",
        "audit.population: embedded 436, computed 437",
    ]


def test_a_score_that_says_more_than_its_entries_is_found() -> None:
    story = Story()
    story.begin(KEY.vkey)
    story.tell(
        "score", payment="0.00", data="0.00", merchant="100.00", total="20.00", formula="20 × 1", up_to=2,
        groups=[{"name": "payment", "weight": 60, "fractions": [_part("recorded", 0, 12), _part("tried", 0, 3)]},
                {"name": "data", "weight": 20, "fractions": [_part("verified", 0, 12), _part("shared", 0, 1)]},
                {"name": "merchant", "weight": 20, "fractions": [_part("moved", 12, 12)]}],
    )  # fmt: skip
    found = recompute.differences(story.text(), make(story.bundle(), "en"))
    assert "score.total: embedded 20.00, computed 0.00" in found
    assert "score.merchant.moved.done: embedded 12, computed 0" in found


def _part(name: str, done: int, of: int) -> dict[str, object]:
    return {"name": name, "numerator": done, "denominator": of, "evidence": []}


def test_the_script_runs_by_itself_and_imports_nothing_of_alih(tmp_path: Path) -> None:
    story = STORIES["whole"]
    (tmp_path / "bundle").write_text(story.text(), encoding="utf-8")
    (tmp_path / "page").write_text(make(story.bundle(), "id"), encoding="utf-8")
    script = Path(recompute.__file__)
    run = subprocess.run(
        [sys.executable, "-I", "-S", script, tmp_path / "bundle", tmp_path / "page"], capture_output=True, check=True
    )
    assert run.stdout.decode().endswith(" figures, all equal\n")
    imported = {
        name
        for node in ast.walk(ast.parse(script.read_text(encoding="utf-8")))
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [])
        + ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [])
    }
    assert {name.partition(".")[0] for name in imported} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize(("name", "language"), CASES)
def test_the_page_needs_nothing_else_and_runs_nothing(name: str, language: str) -> None:
    page = page_of(name, language)
    tags = list(_Tags.of(page))
    assert {given["href"] for _, given in tags if "href" in given} == {"#check"}
    assert not [given for _, given in tags if given.keys() & {"src", "style", "srcset", "data", "action"}]
    assert not [key for _, given in tags for key in given if key.startswith("on")]
    assert [given["type"] for tag, given in tags if tag == "script"] == ["application/json"]
    assert "url(" not in page
    assert "@import" not in page
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    allowed = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'sha256-{allowed}'" in page.replace("&#39;", "'")


class _Tags(HTMLParser):
    """All tags; asserts that they are closed in their order."""

    _EMPTY = frozenset({"meta", "br", "path", "line", "circle", "rect"})

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    @classmethod
    def of(cls, page: str) -> Iterator[tuple[str, dict[str, str | None]]]:
        parser = cls()
        parser.feed(page)
        assert parser.open == []
        yield from parser.tags

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self._EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_texts_of_others_are_only_texts() -> None:
    story = half_way()
    hostile = '</script><script>alert(1)</script><b onclick="x">&amp;'
    story.tell("finding", source="trial", what=hostile, tenant=hostile)
    story.buy("first", "after", {"price": hostile})
    story.refuse(hostile)
    page = make(story.bundle(), "id")
    assert "<b onclick" not in page
    assert page.count("<script") == 1
    assert recompute.differences(story.text(), page) == []


def test_what_failed_stands_on_the_page() -> None:
    page = page_of("failing", "en")
    first = re.sub(r"<[^>]*>", "", page[page.index("<header") : page.index('<section class="part"')])
    for said in ("87.50", "24 of 25 passed", "Rp2 unexplained", "13 of 14 sampled sales", "1 finding is on record."):
        assert said in first
    text = re.sub(r"<[^>]*>", "", page)
    assert "shown = ordered = charged = settled: shown 25000, ordered 25001, charged 25001, settled 25001" in text
    assert "✗ missing: row in the owner’s ledger, invoice" in text
    assert text.count("charge and provider differ") == 2
    assert re.search(r"its signature was wrong\s*2", text)


def test_the_first_screen_says_what_was_not_done() -> None:
    page = re.sub(r"<[^>]*>", "", page_of("begun", "en"))
    assert "No score has been computed yet." in page
    assert "No purchase has been tried yet." in page
    assert "Money not matched yet" in page
    assert "Deadline: 13 April 2024" not in page
    assert "Deadline: 12 April 2024. The evidence ends 955 days after it." in page
    assert "no answer on record" in page_of("half way", "en")


@pytest.mark.parametrize(
    ("language", "shown"),
    [
        ("en", ("24 November 2026, 08:14:09 WIB", "Rp2,713,450,000", "153,322", ">100.00<", "24 Nov 2026, 08:04:10")),
        ("id", ("24 November 2026, 08.14.09 WIB", "Rp2.713.450.000", "153.322", ">100,00<", "24 Nov 2026, 08.04.10")),
    ],
)  # fmt: skip
def test_numbers_and_moments_are_written_as_the_language_does(language: str, shown: tuple[str, ...]) -> None:
    page = page_of("whole", language)
    for each in shown:
        assert each in page or each in re.sub(r"<[^>]*>", "", page)
    unit = {"en": "ms", "id": "md"}[language]
    assert re.search(rf'data-figure="tab.before.ms" value="(\d+)">\1\u00a0{unit}</data>', page)


def test_the_same_bundle_gives_the_same_page() -> None:
    bundle = Bundle.read(STORIES["failing"].text())
    assert make(bundle, "id") == page_of("failing", "id")


def test_every_text_is_translated_and_nothing_else_is() -> None:
    texts = catalog("id")
    assert texts.num_plurals == 1
    used = set(_texts())
    assert used == {message.id if isinstance(message.id, str) else message.id[0] for message in texts if message.id}
    for message in texts:
        if not message.id:
            continue
        one = message.id if isinstance(message.id, str) else message.id[0]
        assert message.string
        translated = message.string if isinstance(message.string, str) else message.string[0]
        assert translated
        assert not message.fuzzy
        assert _placeholders(translated) == _placeholders(one)


def _texts() -> Iterator[str]:
    methods = [("**.py", "python"), ("templates/**.html", "jinja2")]
    keywords = {"marked": None, "_": None, "ngettext": (1, 2)}
    found = extract_from_dir(SOURCE / "report", methods, {"templates/**.html": {}}, keywords)
    for _, _, text, _, _ in found:
        yield text if isinstance(text, str) else text[0]


def _placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"%\((\w+)\)s", text))


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_figure_is_shown_in_one_language_only(language: str) -> None:
    pages = [recompute.Page(page_of("failing", each)) for each in ("en", language)]
    assert sorted(pages[0].shown) == sorted(pages[1].shown)


def test_the_rules_name_what_the_report_can_say() -> None:
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    assert sum(rules["weights"].values()) == 100
    for article in rules["articles"]:
        assert set(article["measured"]) <= STATEMENTS
        assert set(article["asks"]) == set(LANGUAGES)
        assert article["source"]
    macros = set(re.findall(r"{% macro (\w+)\(", (SOURCE / "report/templates/statements.html").read_text("utf-8")))
    assert macros >= STATEMENTS


def test_alih_itself_names_no_article_and_calls_nothing_lawful() -> None:
    named = re.compile(r"\b(Permendag|UU PDP|Pasal|Kemendag|lawful|complian(t|ce)|complies|mematuhi)\b", re.IGNORECASE)
    for path in sorted((SOURCE / "report").rglob("*")):
        if path.suffix in {".py", ".html", ".po", ".css"}:
            assert not named.search(path.read_text(encoding="utf-8")), path


def test_what_a_rule_measures_that_this_version_does_not_know_is_said() -> None:
    story = begun()
    articles = [{"article": "A", "source": "S", "asks": {"en": "x", "id": "y"}, "measured": ["colour"]}]
    story.tell("rules", weights={"payment": 60, "data": 20, "merchant": 20}, articles=articles, deadline=None)
    page = make(story.bundle(), "en")
    assert "Not known to this version: colour" in page
    assert "No deadline is on record." in page


def test_another_language_or_a_log_of_nothing_is_refused() -> None:
    with pytest.raises(Refused, match="there is no report in 'fr'"):
        make(begun().bundle(), "fr")
    story = Story()
    story.notices()
    with pytest.raises(Refused, match="no entry of kind migration"):
        make(story.bundle(), "en")
