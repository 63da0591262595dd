"""Keeps the generated parts of README.md and docs/ current: ``python -m dovetail.recipes.docs [--check]``.

Pages are written by hand around generated blocks. A block stands between ``<!-- begin:NAME -->`` and
``<!-- end:NAME -->``; everything outside is left as it is. A system that is no longer only planned gets its
page from a template, whose gaps are marked TODO.
"""

from __future__ import annotations

import argparse
import ast
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dovetail import catalog
from dovetail.catalog import SYSTEMS, System
from dovetail.core import BadData
from dovetail.recipes import OWN

TEMPLATE = """\
# {title}

<!-- begin:head -->
<!-- end:head -->

## Use it

TODO: one line of Python and one of shell.

## With other methods

TODO: a stack with at least one other method, and what cannot be stacked.

## Parameters

<!-- begin:parameters -->
<!-- end:parameters -->

## What was measured here

<!-- begin:results -->
<!-- end:results -->

TODO: what the table says, in a few sentences, and why a claim does not hold if one does not.

## What the paper reports

TODO: the paper's own figures, with model and data.
"""


def fill(text: str, blocks: Mapping[str, str]) -> str:
    """``text`` with the content of its blocks replaced; ``BadData`` names a block that ``text`` lacks."""
    for name, content in blocks.items():
        begin, end = f"<!-- begin:{name} -->", f"<!-- end:{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
            raise BadData(f"block {name!r} must stand once, between {begin} and {end}")
        before, after = text.split(begin)[0], text.split(end)[1]
        text = f"{before}{begin}\n{content.rstrip()}\n{end}{after}"
    return text


def pages(root: Path) -> dict[Path, str]:
    """Every page with generated blocks and its current text, by path."""
    texts = {
        root / "README.md": _filled(root / "README.md", {"methods": methods_table("docs/methods")}),
        root / "docs/methods/index.md": _filled(
            root / "docs/methods/index.md", {"methods": methods_table(".", papers=True)}
        ),
    }
    for id in OWN:
        texts[root / f"docs/{id}.md"] = _filled(root / f"docs/{id}.md", {"results": results(id)})
    for system in SYSTEMS:
        page = root / system.page
        if system.status != "planned" or page.is_file():
            blocks = {
                "head": head(system),
                "parameters": parameters(system, root),
                "results": results(system.id),
            }
            texts[page] = _filled(page, blocks, TEMPLATE.format(title=system.title))
    return texts


def stale(root: Path) -> list[Path]:
    """The pages whose generated blocks are not current."""
    return [
        page
        for page, text in pages(root).items()
        if not page.is_file() or page.read_text(encoding="utf-8") != text
    ]


def methods_table(folder: str, papers: bool = False) -> str:
    """The catalog as a Markdown table; titles link to the pages in ``folder`` where there are any."""
    rows = [["method", "what it does", "slot", "paper", "status"]]
    for system in SYSTEMS:
        linked = system.status != "planned"
        title = f"[{system.title}]({folder}/{system.id}.md)" if linked else system.title
        title += f" `{system.id}`"
        paper = f"[{system.paper}]({system.url})" if papers else f"[{system.arxiv}]({system.url})"
        venue = f", {system.venue}" if papers and system.venue else ""
        rows.append([title, system.summary, system.slot, paper + venue, system.status])
    return _table(rows)


def head(system: System) -> str:
    """Summary, paper, place and status of a system."""
    venue = f" ({system.venue})" if system.venue else ""
    homes = "; ".join(
        f"`dovetail.{part.module}`: {', '.join(f'`{name}`' for name in part.names)}" for part in system.parts
    )
    rows = [
        ["", ""],
        ["paper", f"[{system.paper}]({system.url}){venue}"],
        ["home", homes],
        ["install", f"`pip install 'dovetail[{','.join(system.extras)}]'`" if system.extras else "the core"],
        ["status", system.status],
        ["reproduce", f"`dovetail reproduce {system.id}`"],
    ]
    return f"{system.summary[0].upper()}{system.summary[1:]}.\n\n{_table(rows)}"


def parameters(system: System, root: Path) -> str:
    """Docstring and fields of each public class or function, as its source has them."""
    blocks = []
    for part in system.parts:
        path = root / "src" / "dovetail" / Path(*part.module.split(".")).with_suffix(".py")
        if not path.is_file():
            blocks.append(f"`dovetail.{part.module}` is planned.")
            continue
        source = path.read_text(encoding="utf-8")
        for node in ast.parse(source).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in part.names:
                blocks.append(f"```python\n{_declaration(node, source)}\n```")
    return "\n\n".join(blocks)


def results(id: str) -> str:
    """The last result's arms and claims as tables, with machine and notes."""
    path = catalog.result_path(id)
    if not path.is_file():
        return "Nothing has been measured yet."
    from dovetail.recipes import read

    result = read(id)
    machine, versions = result["machine"], result["versions"]
    where = ", ".join([machine["cpu"], f"{machine['cores']} cores", *machine["gpu"]])
    packages = ", ".join(f"{p} {versions[p]}" for p in ("torch", "transformers") if p in versions)
    lines = [
        f"Scale {result['scale']}, {result['date']}, {_duration(result['seconds'])} on {where}; {packages}; "
        f"seeds {', '.join(map(str, result['seeds']))}. All of it: `results/{id}.json`.",
        "\n\n".join(map(_table, _figure_tables(result["arms"]))),
        _table(_claim_rows(result["claims"])),
    ]
    lines += [f"- {note}" for note in result["notes"]]
    return "\n\n".join(lines[:3]) + ("\n\n" + "\n".join(lines[3:]) if lines[3:] else "")


def _figure_tables(arms: list[dict[str, Any]]) -> list[list[list[str]]]:
    """A row per arm; arms that have no figure in common stand in tables of their own."""
    together: list[list[dict[str, Any]]] = []
    for arm in arms:
        of = next((t for t in together if any(arm["figures"].keys() & other["figures"] for other in t)), None)
        if of is None:
            together.append(of := [])
        of.append(arm)
    tables = []
    for of in together:
        names = dict.fromkeys(name for arm in of for name in arm["figures"])
        rows = [["arm", *(name.replace("_", " ") for name in names)]]
        rows += [[arm["name"], *(_number(arm["figures"].get(name)) for name in names)] for arm in of]
        tables.append(rows)
    return tables


def _claim_rows(claims: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["claim", "paper", "baseline", "measured", "verdict"]]
    for claim in claims:
        measured = _number({"value": claim["measured"], "interval": claim["interval"]})
        baseline = _number({"value": claim["baseline"], "interval": None})
        text = f"**{claim['text']}**" if claim["main"] else claim["text"]
        rows.append([text, claim["paper"], baseline, measured, claim["verdict"]])
    return rows


def _number(figure: dict[str, Any] | None) -> str:
    if figure is None or figure["value"] is None:
        return ""
    text = f"{figure['value']:.4g}"
    if figure["interval"] is None:
        return text
    low, high = figure["interval"]
    return f"{text} [{low:.4g}, {high:.4g}]"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def _table(rows: list[list[str]]) -> str:
    def line(cells: list[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

    return "\n".join([line(rows[0]), "|" + "---|" * len(rows[0]), *(line(row) for row in rows[1:])])


def _declaration(node: ast.ClassDef | ast.FunctionDef, source: str) -> str:
    """A class up to its last field, or a function up to its docstring's end."""
    last = node.body[0]
    if isinstance(node, ast.ClassDef):
        for child in node.body:
            if isinstance(child, ast.FunctionDef):
                break
            if isinstance(child, ast.AnnAssign):
                last = child
    is_string = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
    end = (last.end_lineno or last.lineno) if is_string or last is not node.body[0] else last.lineno - 1
    return textwrap.dedent("\n".join(source.splitlines()[node.lineno - 1 : end])).rstrip()


def _filled(page: Path, blocks: Mapping[str, str], template: str = "") -> str:
    text = page.read_text(encoding="utf-8") if page.is_file() else template
    try:
        return fill(text, blocks)
    except BadData as error:
        raise BadData(f"{page}: {error}") from None


def main(say: Callable[[str], None] = print) -> int:
    """Refreshes all pages of the checkout, or with ``--check`` only names the stale ones (exit status 1)."""
    parser = argparse.ArgumentParser(description="Refresh the generated parts of README.md and docs/.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit with 1 if a page is stale")
    check = parser.parse_args().check
    root = Path(__file__).resolve().parents[3]
    old = stale(root)
    texts = pages(root)
    for page in old:
        if not check:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(texts[page], encoding="utf-8")
        say(f"{'stale' if check else 'written'}: {page.relative_to(root)}")
    return 1 if check and old else 0


if __name__ == "__main__":
    raise SystemExit(main())
