from dataclasses import replace

from rich.console import Console

from dovetail.core.statistics import summarise
from dovetail.report import terminal

from .conftest import outcomes, report_of


def printed(report, width=140):
    console = Console(width=width, record=True, file=open("/dev/null", "w"), color_system="truecolor")  # noqa: SIM115
    console.print(terminal(report))
    return console.export_text(styles=False)


def test_the_table_says_what_the_report_says(report):
    text = printed(report)
    sampling = report.arm("sampling")
    assert f"{100 * sampling.figures['accuracy'].value:.1f} ±" in text
    assert f"{100 * sampling.difference.value:+.1f} [" in text
    assert sampling.difference.verdict in text
    assert "greedy (baseline)" in text
    assert all(f"- {note}" in " ".join(text.split()) for note in report.notes)


def test_a_narrow_terminal_loses_no_figure():
    made = report_of(("greedy", "a-rather-long-arm-name+another"), 40)
    lines = printed(made, 80).splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    d = made.arms[1].difference
    assert f"{100 * d.value:+.1f}" in text
    assert f"[{100 * d.interval[0]:+.1f}, {100 * d.interval[1]:+.1f}]" in text
    assert "…" not in text


def test_markup_in_names_and_notes_is_text():
    made = report_of(("[red]x[/red]", "b"), 10, notes=("[bold]hi[/bold]",))
    text = printed(made)
    assert "[red]x[/red] (baseline)" in text
    assert "vs [red]x[/red]" in text
    assert "- [bold]hi[/bold]" in text


def test_continued_notes_and_partial_reports():
    text = printed(report_of(notes=("2 rows left out:", "  x:1: bad", "  x:2: bad"), complete=False))
    assert "- 2 rows left out:\n  x:1: bad\n  x:2: bad" in text
    assert "Partial: the run was interrupted." in text


def test_an_arm_that_never_ran_prints():
    rows = outcomes(["a"], 10, {"a": 0.5})
    arms = summarise(rows, "a", arms=["a", "b"], resamples=200)
    text = printed(replace(report_of(("a",), 10), arms=arms))
    row = next(line for line in text.splitlines() if line.startswith("b "))
    assert "nan" not in text
    assert row.split() == ["b", *["–"] * 5, "cannot", "tell", *["–"] * 3]  # f1 too
