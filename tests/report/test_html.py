import base64
import gzip
import hashlib
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from dovetail.core.statistics import summarise
from dovetail.report import html, save
from dovetail.report.html import question

from .conftest import NASTY, outcomes, report_of

VOID = {"meta", "link", "input", "br", "img", "hr", "wbr"}


class Page(HTMLParser):
    """Tags, attributes and text; fails on tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.scripts = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.scripts if self.open and self.open[-1] == "script" else self.text).append(data)


def payload(page):
    return json.loads(gzip.decompress(base64.b64decode(Page(page).scripts[0])))


def test_page_is_well_formed_and_asks_for_nothing(report):
    page = html(report)
    parsed = Page(page)
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "action", "data"):
            assert not attributes.get(name) or attributes[name] == "data:,", (tag, name)
    assert not re.search(r"https?://|@import|url\(", page)


def test_policy_allows_the_page_s_own_script_only(report):
    parsed = Page(html(report))
    policy = next(a["content"] for t, a in parsed.tags if a.get("http-equiv") == "Content-Security-Policy")
    digest = base64.b64encode(hashlib.sha256(parsed.scripts[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'")
    scripts = [a for t, a in parsed.tags if t == "script"]
    assert len(scripts) == 2
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)


def test_nothing_that_is_written_into_the_page_can_be_markup(tmp_path):
    rows = [
        replace(o, completion=NASTY, prompt=NASTY, answer=NASTY, example_id=f"{i}{NASTY}")
        for i, o in enumerate(outcomes(["a"], 3, {"a": 0.5}))
    ]
    made = report_of((NASTY, "b"), 10)
    arms = [replace(a, description=NASTY) for a in made.arms]
    made = replace(
        made, title=NASTY, model=NASTY, task=NASTY, arms=arms, notes=(NASTY, f"  {NASTY}"),
        record={NASTY: NASTY, "prompt": [NASTY, {NASTY: NASTY}]}, outcomes=(*made.outcomes, *rows),
    )  # fmt: skip
    page = html(made)
    parsed = Page(page)
    assert [t for t, _ in parsed.tags if t == "script"] == ["script", "script"]
    assert not [t for t, _ in parsed.tags if t == "img"]
    assert "alert(1)" not in "".join(parsed.scripts)
    assert "<!--" not in page


def test_every_figure_is_on_the_page(report):
    text = "".join(Page(html(report)).text)
    sampling = report.arm("sampling")
    accuracy, d = sampling.figures["accuracy"], sampling.difference
    assert (
        f"{100 * accuracy.value:.1f}%{100 * accuracy.interval[0]:.1f}% – {100 * accuracy.interval[1]:.1f}%"
        in text
    )
    assert f"{100 * abs(d.value):.1f}" in text
    assert d.verdict in text
    assert all(note in text for note in report.notes)
    assert "torch" in text
    assert f"{sampling.figures['f1'].value:.2f}" in text


def test_cells_carry_the_values_that_they_sort_by(report):
    page = html(report)
    for a in report.arms:
        assert f'data-v="{a.figures["accuracy"].value:.9g}"' in page
        assert f'data-v="{a.mean_cost["tokens_written"].value:.9g}"' in page


def test_tables_fit_a_page_and_their_cells_say_what_they_are():
    """Eight columns are what 1,080 px hold; on a phone a cell's column is named in the cell."""
    made = report_of(("greedy", "sampling", "third"), 40)
    for table in re.findall(r'<table id="(?:results|costs)">.*?</table>', html(made), re.DOTALL):
        heads = re.findall(r"<button[^>]*>(.*?)</button>", table)
        assert len(heads) <= 8
        rows = re.findall(r"<tr>(<th scope=.row.*?|<th data-k.*?)</tr>", table, re.DOTALL)
        assert len(rows) == 3
        for row in rows:
            assert re.findall(r'<t[hd] data-k="(.*?)"', row) == heads
            assert len(re.findall("<t[hd][ >]", row)) == len(heads)


def test_the_record_is_folded_and_repeats_nothing():
    made = report_of()
    prompt = made.record["prompt"]
    arms = {"greedy": {"prompt": prompt, "description": "G", "thinking": None}, "b": {"prompt": "own"}}
    many = {f"package{i}": i for i in range(9)}
    page = html(replace(made, record={**made.record, "arms": arms, "versions": many}))
    record = page[page.index('<section class="record">') : page.index('<script id="data"')]
    assert record.count("What is 0 + 1?") == 1
    assert "<summary>package0 0, package1 1, " in record
    assert "<summary>G</summary>" in record
    assert "own" in record
    assert "thinking" not in record


def test_examples_travel_whole(report):
    data = payload(html(report))
    assert data["arms"] == ["greedy", "sampling"]
    assert len(data["examples"]) == 40
    first = data["examples"][1]
    assert first["q"] == "What is 1 + 1?"
    assert first["arms"][0]["t"] == report.outcomes[1].completion
    assert data["prompts"][first["arms"][1]["p"]] == report.outcomes[1].prompt
    assert len(data["prompts"]) == 40  # shared by the arms
    assert first["arms"][0]["c"]["votes"] == '{"a": 2}'
    assert data["examples"][4]["arms"][0]["e"] == "RuntimeError: closed"
    assert data["examples"][2]["arms"][0]["f"] == "length"
    assert data["examples"][3]["ref"] is None


def test_missing_outcomes_are_marked():
    made = report_of(n=10)
    data = payload(html(replace(made, outcomes=made.outcomes[:-1])))
    assert data["examples"][-1]["arms"][0] is not None
    assert data["examples"][-1]["arms"][1] is None


def test_size_stays_reasonable():
    arms = [f"arm{i}" for i in range(8)]
    assert len(html(report_of(arms, 200))) < 400_000


def test_one_arm_and_arms_that_never_ran():
    page = html(report_of(("only",), 10))
    assert "nothing is compared" in page
    assert "Verdict" not in page
    rows = outcomes(["a"], 10, {"a": 0.5})
    arms = summarise(rows, "a", arms=["a", "b"], resamples=200)
    text = "".join(Page(html(replace(report_of(("a",), 10), arms=arms, complete=False))).text)
    assert "nan" not in text
    assert "partial" in text


def test_continued_notes_fold_under_their_first_line():
    notes = ("20 rows left out:", *(f"  x.jsonl:{i}: bad" for i in range(20)))
    page = html(report_of(notes=notes))
    assert "<summary>20 rows left out:</summary>" in page
    assert page.count("<li>x.jsonl:") == 20


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<|im_start|>user\nWhat\n is  it?<|im_end|>\n<|im_start|>assistant\n<think>", "What is it?"),
        (
            "<|im_start|>user\nA<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nC<|im_end|>",
            "C",
        ),
        ("[INST] Why? [/INST]", "Why?"),
        ("plain question\n\n", "plain question"),
        ("x" * 300, "…" + "x" * 199),
        ("<|im_start|>user\n" + "x" * 300 + "<|im_end|>", "x" * 199 + "…"),
        ("", ""),
    ],
)
def test_question(prompt, expected):
    assert question(prompt) == expected


@pytest.mark.skipif(not shutil.which("node"), reason="node is not installed")
def test_script_parses(report, tmp_path):
    path = tmp_path / "report.js"
    path.write_text(Page(html(report)).scripts[1])
    subprocess.run(["node", "--check", str(path)], check=True)


@pytest.mark.skipif(not shutil.which("chromium"), reason="chromium is not installed")
def test_page_works_in_a_browser(report, tmp_path):
    page = save(report, tmp_path)
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command += [f"--user-data-dir={tmp_path / 'browser'}", "--enable-logging=stderr", "--v=0"]
    command += ["--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert "CONSOLE" not in done.stderr
    assert done.stdout.count('class="ex"') == 20
    assert "40 of 40" in done.stdout
