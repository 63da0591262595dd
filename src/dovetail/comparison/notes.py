"""What a reader must know beside the figures: everything left out, cut off, failed or too weak to tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dovetail.core import Arm, BadRow, Limits, Outcome
from dovetail.report.notes import notes as report_notes

_NAMED = 5  # failures named per arm; all of them are in the examples


def write(
    arms: Sequence[Arm],
    baseline: str,
    outcomes: Mapping[str, Sequence[Outcome]],
    bad: Sequence[BadRow],
    limits: Limits,
    asked: int | None,
    examples: int,
    finished: int,
    likelihood: bool,
) -> list[str]:
    """The report's notes, the gravest first.

    Args:
        arms, baseline: the report's rows, and which one the others are compared with.
        outcomes: by arm, those that the report stands on.
        bad: rows that could not be read; each is named.
        limits: where writing ended.
        asked, examples, finished: examples wanted (None for all), found, and done under every arm.
        likelihood: whether the scorer ranked given choices.
    """
    notes = []
    if finished < examples:
        notes.append(f"interrupted: this report stands on the first {finished} of {examples} examples")
    notes += _failed(outcomes)
    notes += report_notes(arms, baseline)
    if likelihood:
        notes.append("choices are ranked by likelihood and nothing is written: decodings play no part here")
    if bad:
        notes.append(f"{_rows(len(bad), 'bad row')} left out of the task:")
        notes += [f"  {row}" for row in bad]
    if asked is not None and examples < asked:
        notes.append(f"{asked} examples were asked for; the task has {examples}")
    for name, rows in outcomes.items():
        written = [o for o in rows if not o.error]
        cut = sum(o.finish_reason == "length" for o in written)
        if cut:
            notes.append(
                f"{name}: {cut} of {len(rows)} completions were cut off, at "
                f"max_new_tokens={limits.max_new_tokens} or where the context ends; they count as they stand"
            )
        unparsed = sum(not o.parsed for o in written)
        if unparsed:
            notes.append(f"{name}: {unparsed} of {len(rows)} completions do not answer in the form asked for")
    return notes


def _failed(outcomes: Mapping[str, Sequence[Outcome]]) -> list[str]:
    """A note per failing arm; one for all arms that fail alike, as they do over a faulty example."""
    alike: dict[str, list[str]] = {}
    for name, rows in outcomes.items():
        failed = [o for o in rows if o.error]
        if failed:
            shown = "; ".join(f"{o.example_id}: {o.error}" for o in failed[:_NAMED])
            more = f"; and {len(failed) - _NAMED} more" if len(failed) > _NAMED else ""
            text = f"{len(failed)} of {len(rows)} examples failed and score 0: {shown}{more}"
            alike.setdefault(text, []).append(name)
    everyone = len(outcomes) > 1 and len(outcomes)
    return [
        f"{'every arm' if len(names) == everyone else ', '.join(names)}: {t}" for t, names in alike.items()
    ]


def _rows(n: int, noun: str) -> str:
    return f"{n} {noun}" + ("" if n == 1 else "s")
