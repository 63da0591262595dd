"""Questions from a dataset on the Hugging Face hub, or one saved by ``datasets``:
``hf:NAME[@REVISION][:CONFIG][:SPLIT]``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dovetail.core import BadData, BadRow, Example, MissingExtra, NotReachable, Scorer, Task
from dovetail.tasks.files import described
from dovetail.tasks.rows import Row

SPLITS = ("test", "validation", "dev", "eval", "train")  # the first that exists, where none is named


def task(
    spec: str,
    *,
    question: str | None = None,
    answer: str | None = None,
    choices: str | None = None,
    id: str | None = None,
    format: str | None = None,
    scorer: str | Scorer | None = None,
    instruction: str | None = None,
    split: str | None = None,
    config: str | None = None,
    revision: str | None = None,
    name: str | None = None,
) -> Task:
    """A hub dataset (or a local folder that ``datasets`` wrote or can read) as a task.

    The dataset is opened at once, so that its revision and fingerprint are known; rows are read when examples
    are
    needed, and reading stops at the limit: only rows up to there are checked.

    Args:
        spec: ``NAME[@REVISION][:CONFIG][:SPLIT]``; NAME may be a local folder. A single part after the name
            is taken for a split if it is called like one (``test``, ``train[:10%]``), else for a
            configuration.
        question, answer, choices, id, format, scorer, instruction, name: as for files.
        split, config, revision: the same, by keyword.

    Raises:
        MissingExtra: ``datasets`` is not installed.
        NotReachable: the hub cannot be reached and the dataset is not in the cache.
        BadData: there is no such dataset, configuration or split, or it is no question set.
    """
    place, found_revision, found_config, found_split = parsed(spec)
    revision, config, split = revision or found_revision, config or found_config, split or found_split
    data, split = _opened(place, config, split, revision)
    columns, judge, said = described(place, question, answer, choices, id, format, scorer, instruction)
    short = place.rstrip("/").rpartition("/")[2]

    def load(limit: int | None, seed: int) -> tuple[Sequence[Example], Sequence[BadRow]]:
        # Bad rows are few: reading a tenth more than the limit, then as much as it takes.
        count = len(data) if limit is None else min(len(data), limit)
        while True:
            examples, bad = columns.examples(
                _rows(data, count), f"hf:{place}:{split}", f"{short}-{split}", limit
            )
            if count >= len(data) or limit is None or len(examples) >= limit:
                return examples, bad
            count = min(len(data), count + max(count // 10, 10))

    given = {
        "config": config,
        "split": split,
        "question": question,
        "answer": answer,
        "choices": choices,
        "id": id,
    }
    parameters = {key: value for key, value in given.items() if value is not None}
    return Task(name or f"hf:{spec}", load, judge, said, _version(data, revision), parameters)


def read(spec: str) -> Iterator[Row]:
    """All rows of a dataset, for tasks that make their own examples of them; errors as for `task`."""
    place, revision, config, split = parsed(spec)
    data, _ = _opened(place, config, split, revision)
    return _rows(data, len(data))


def parsed(spec: str) -> tuple[str, str | None, str | None, str | None]:
    """(name, revision, configuration, split) of a specification; the parts left out are None.

    >>> parsed("openai/gsm8k:main:test")
    ('openai/gsm8k', None, 'main', 'test')
    >>> parsed("squad@v1:train[:10%]")
    ('squad', 'v1', None, 'train[:10%]')
    """
    if Path(spec).exists():
        return spec, None, None, None
    parts = re.split(r":(?![^\[]*\])", spec)
    if len(parts) > 3 or not all(parts):
        raise BadData(f"hf:{spec} is not hf:NAME[:CONFIG][:SPLIT]")
    place, at, revision = parts[0].partition("@")
    config = split = None
    if len(parts) == 3:
        config, split = parts[1:]
    elif len(parts) == 2 and re.match(rf"({'|'.join(SPLITS)})\b", parts[1]):
        split = parts[1]
    elif len(parts) == 2:
        config = parts[1]
    return place, revision if at else None, config, split


def _opened(place: str, config: str | None, split: str | None, revision: str | None) -> tuple[Any, str]:
    """The dataset and the split's name."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra("datasets", "data") from error
    try:
        if (Path(place) / "dataset_dict.json").exists() or (Path(place) / "state.json").exists():
            data = datasets.load_from_disk(place)
        else:
            data = datasets.load_dataset(place, config, split=split, revision=revision)
    except Exception as error:
        words = str(error).strip().splitlines() or [type(error).__name__]
        if _is_offline(error):
            raise NotReachable(
                f"hf:{place} is not in the cache and the hub cannot be reached ({words[0][:200]}): "
                "go online, or save it with datasets and give the folder, hf:FOLDER"
            ) from error
        raise BadData(f"hf:{place} cannot be opened: {words[0][:300]}") from error
    if isinstance(data, datasets.DatasetDict):
        names = list(data)
        chosen = split or next((s for s in SPLITS if s in names), names[0])
        if chosen not in data:
            raise BadData(f"hf:{place} has no split {chosen!r}: it has {', '.join(names)}")
        return data[chosen], chosen
    return data, split or str(data.split or "all")


def _is_offline(error: BaseException | None) -> bool:
    """Whether the error, or one that it came from, is about the connection rather than the dataset."""
    names = (
        "Connect",
        "Offline",
        "Timeout",
        "LocalEntryNotFound",
        "ProxyError",
        "NameResolution",
        "MaxRetry",
    )
    for _ in range(10):
        if error is None:
            return False
        if isinstance(error, ConnectionError) or any(n in type(error).__name__ for n in names):
            return True
        error = error.__cause__ or error.__context__
    return False


def _rows(data: Any, count: int) -> Iterator[Row]:
    for line, values in enumerate(data.select(range(count)), 1):
        yield Row(line, dict(values))


def _version(data: Any, revision: str | None) -> str:
    """Commit of the hub where it is known, and the fingerprint of the data as loaded."""
    commits = {
        m[1]
        for source in (data.info.download_checksums or {})
        if (m := re.search(r"@([0-9a-f]{40})/", source))
    }
    parts = [*sorted(commits), f"revision:{revision}" if revision else "", f"fingerprint:{data._fingerprint}"]
    return " ".join(p for p in parts if p)
