"""The command line: ``dovetail compare``, ``audit``, ``train``, ``methods``, ``show``, ``reproduce``, ...

Commands read arguments, call the library and print; what is heavy is imported by the command that needs it.
Errors that are the user's to mend are one line on stderr and exit code 2; ``--debug`` gives the traceback.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from dovetail import __version__
from dovetail.core.errors import DovetailError, InvalidValue, UnknownName

if TYPE_CHECKING:
    from rich.console import Console

    from dovetail.catalog import System
    from dovetail.core import Report

FAILED, MISTAKE, INTERRUPTED = 1, 2, 130  # exit codes: something did not work, wrong arguments, Ctrl-C

app = typer.Typer(
    help="Published methods for language models, compared on your model and task.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
pico = typer.Typer(help="The embedded model family.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(pico, name="pico")


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The entry point: runs a command and exits with its code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [w for w in words if w != "--debug"]
    code: int | str | None = 0
    try:
        app(words, prog_name="dovetail")
    except SystemExit as end:
        code = end.code
    except DovetailError as error:
        if debug:
            raise
        _complain(error)
        code = MISTAKE
    except KeyboardInterrupt:
        code = INTERRUPTED
    sys.exit(code)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"dovetail {__version__}")
        raise typer.Exit


@app.callback()
def _dovetail(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    pass


# --- compare ----------------------------------------------------------------------------------------


@app.command()
def compare(
    arms: Annotated[
        list[str] | None,
        typer.Argument(
            help="Arms: name:key=value,...+name:... or LABEL=SPEC, such as greedy, sampling:temperature=0.6, "
            "off=greedy:thinking=false. The first is the baseline.",
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", "-m", help="pico, a folder, a hub id, or openai/NAME@URL.")
    ] = "pico",
    task: Annotated[
        str,
        typer.Option(
            "--task", "-t", help="A name (dovetail tasks), a .jsonl/.csv/.parquet file, or hf:NAME."
        ),
    ] = "chain-sum",
    arm: Annotated[list[str] | None, typer.Option("--arm", help="One more arm; may be repeated.")] = None,
    limit: Annotated[int, typer.Option(help="Examples at most; 0 for all.", min=0)] = 200,
    seed: Annotated[int, typer.Option(help="Draws examples and all random streams.")] = 0,
    baseline: Annotated[str | None, typer.Option(help="Label of the arm to compare with.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; by default runs/TASK-TIME.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forget the run in OUT, begin anew.")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Tokens per completion at most.")] = 512,
    stop: Annotated[
        list[str] | None, typer.Option(help="A text that ends completions; may be repeated.")
    ] = None,
    thinking: Annotated[bool, typer.Option(help="The template's thinking mode.")] = True,
    instruction: Annotated[
        str | None, typer.Option(help="System message, in place of the task's own.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="Column that holds the question.")] = None,
    answer: Annotated[str | None, typer.Option(help="Column that holds the answer.")] = None,
    choices: Annotated[str | None, typer.Option(help="Column that holds the choices.")] = None,
    scorer: Annotated[
        str | None, typer.Option(help="How files are judged: auto, math, exact, f1, ...")
    ] = None,
    with_: Annotated[
        list[str] | None,
        typer.Option(
            "--with", help="A parameter of the task, KEY=VALUE; may be repeated.", metavar="KEY=VALUE"
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or cuda:N.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, float16 or auto.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that comes with the model.")
    ] = False,
    batch: Annotated[int, typer.Option(help="Examples given to an arm at once.")] = 32,
    workers: Annotated[str | None, typer.Option(help="'ray': share the work among Ray workers.")] = None,
    n_workers: Annotated[int, typer.Option(help="How many of them.")] = 2,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars.")] = False,
) -> None:
    """Compare arms on the same examples: accuracy and costs.

    Every arm answers the same examples; the report has accuracies, paired differences to the baseline with a
    verdict, and costs. Example: dovetail compare --task chain-sum greedy sampling:temperature=0.6
    """
    specs = [*(arms or ()), *(arm or ())]
    if not specs:
        from dovetail.comparison import known

        raise InvalidValue(
            "ARMS", "", f"at least one, such as greedy soft-thinking; known: {', '.join(known())}"
        )
    from dovetail.comparison import Interrupted
    from dovetail.comparison import compare as run
    from dovetail.comparison.arms import resolve
    from dovetail.comparison.journal import prepare

    folder = out or _folder(task, resume)
    prepare(folder, resume, overwrite)  # before the seconds that loading takes
    resolved = resolve(specs)
    parameters = {"question": question, "answer": answer, "choices": choices, "scorer": scorer}
    options = {"device": device, "dtype": dtype, "trust_remote_code": trust_remote_code or None}
    try:
        report = run(
            model,
            _task(task, _given(parameters) | dict(map(_pair, with_ or ()))),
            resolved,
            limit=limit or None,
            seed=seed,
            baseline=baseline,
            out=folder,
            resume=resume,
            overwrite=overwrite,
            max_new_tokens=max_new_tokens,
            stop=tuple(stop or ()),
            batch=batch,
            workers=workers,  # type: ignore[arg-type]  # a wrong one is refused by name
            n_workers=n_workers,
            thinking=thinking,
            instruction=instruction,
            model_options=_given(options),
            progress=not quiet,
        )
    except Interrupted as stopped:
        if stopped.report is not None:
            _show_report(stopped.report, folder)
        again = f"the same command with --out {folder} --resume"
        typer.echo(f"interrupted; {again} goes on where it stopped", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except KeyboardInterrupt:
        typer.echo("interrupted before anything was done", err=True)
        raise typer.Exit(INTERRUPTED) from None
    _show_report(report, folder)
    if any(all(o.error for o in report.outcomes if o.arm == a.name) for a in report.arms):
        raise typer.Exit(FAILED)


def _show_report(report: Report, folder: Path) -> None:
    from dovetail.report import terminal

    _console().print(terminal(report))
    typer.echo(f"\nreport: {folder / 'report.html'}")


def _folder(task: str, resume: bool) -> Path:
    """``runs/TASK-TIME``."""
    import re
    from datetime import datetime

    if resume:
        raise InvalidValue("--resume", True, "given with --out, the folder of the run to resume")
    name = re.sub(r"[^\w.-]+", "-", Path(task).stem if Path(task).suffix else task).strip("-") or "task"
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def _task(name: str, parameters: dict[str, Any]) -> Any:
    from dovetail.benchmarks import task

    return task(name, **parameters)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def _pair(text: str, option: str = "--with") -> tuple[str, Any]:
    """``key=value`` with the value read as a Python literal where it is one."""
    import ast

    key, equals, value = text.partition("=")
    if not equals or not key.strip().isidentifier():
        raise InvalidValue(option, text, f"KEY=VALUE, such as {option} name=4")
    try:
        return key.strip(), ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
    except (ValueError, SyntaxError):
        return key.strip(), value


# --- train ------------------------------------------------------------------------------------------


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A TOML file; docs/train.md tells its keys.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(help="KEY=VALUE, such as steps=50 objective.kl=0.05 rewards.0.weight=2."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; by default the recipe's, else runs/NAME-TIME.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Forget the run in OUT, begin anew.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved run as JSON and train nothing.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write OUT/tensorboard.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Train a model: objective, rewards, data and monitors as a recipe names them."""
    from dovetail.training.plan import read

    plan = read(recipe, overrides or ())
    if dry_run:
        typer.echo(json.dumps(plan.describe(), indent=1, ensure_ascii=False, default=str))
        return
    from dovetail.report.training import headline

    folder = out or (Path(plan.out) if plan.out else _folder(str(recipe), resume))
    try:
        run = plan.run(
            out=folder,
            resume=resume,
            overwrite=overwrite,
            progress=not quiet,
            tensorboard=tensorboard,
        )
    except KeyboardInterrupt:
        typer.echo(f"interrupted; the same command with --out {folder} --resume goes on", err=True)
        raise typer.Exit(INTERRUPTED) from None
    typer.echo(headline(run))
    for reason, count in run.skipped.items():
        typer.echo(f"left out, {reason}: {count}", err=True)
    if run.stopped:
        typer.echo(f"stopped by {run.stopped}", err=True)
    typer.echo(f"model: {folder / 'model'}\nreport: {folder / 'training.html'}")


# --- audit -----------------------------------------------------------------------------------------


@app.command()
def audit(
    name: Annotated[str, typer.Argument(help="Which audit: reward-hacking.")],
    source: Annotated[Path, typer.Argument(help="What is audited: a .jsonl, .parquet or .csv file.")],
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="A parameter of the audit, KEY=VALUE; may be repeated.", metavar="KEY=VALUE"
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; by default runs/audit-NAME-TIME.")
    ] = None,
) -> None:
    """Audit what a run left; ends in the same report as a comparison."""
    from dataclasses import fields

    from dovetail.audits import audit as named

    kind = named(name)
    given = dict(_pair(text, "--set") for text in set_ or ())
    known = [f.name for f in fields(kind)]
    for key in given:
        if key not in known:
            raise UnknownName(f"parameter of {name}", key, known)
    report = kind(**given).run(source)
    folder = out or _folder(f"audit-{name}", False)
    report.save(str(folder))
    _show_report(report, folder)


# --- the catalog ------------------------------------------------------------------------------------


@app.command()
def methods(
    as_json: Annotated[bool, typer.Option("--json", help="All entries as JSON.")] = False,
    slot: Annotated[str | None, typer.Option(help="Only those with a part in this slot.")] = None,
    status: Annotated[str | None, typer.Option(help="Only works, partial or planned.")] = None,
) -> None:
    """List the sixty published systems, and what works."""
    from dovetail import catalog

    found = catalog.systems(slot, status)  # type: ignore[arg-type]  # a wrong one is refused by name
    if as_json:
        typer.echo(json.dumps([s.as_dict() for s in found], indent=1, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("id", "title", "slot", "status", "result"):
        table.add_column(column, overflow="fold", no_wrap=column in ("id", "status"))
    colour = {"works": "green", "partial": "yellow", "planned": "dim"}
    for s in found:
        state = f"[{colour[s.status]}]{s.status}[/]"
        table.add_row(f"[bold]{s.id}[/]", s.title, s.slot, state, s.result or "")
    _console().print(table)
    counted = [f"{sum(s.status == k for s in found)} {k}" for k in colour]
    typer.echo(f"\n{len(found)} systems: {', '.join(counted)}. dovetail show ID tells more.")


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="Of the catalog, or the name of an arm.")],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Tell a method's parameters, paper and last result."""
    from dovetail import catalog
    from dovetail.comparison import known

    found = next((s for s in catalog.SYSTEMS if s.id == id), None)
    if found is None and id not in known():
        raise UnknownName("method", id, [*known(), *(s.id for s in catalog.SYSTEMS)])
    result = _result(found)
    places = (
        [(f"dovetail.{part.module}", name) for part in found.parts for name in part.names]
        if found is not None
        else [known()[id][1:]]
    )
    docs = {f"{module}.{name}": _docstring(module, name) for module, name in places}
    if as_json:
        entry = found.as_dict() if found is not None else {"id": id}
        typer.echo(json.dumps({**entry, "docs": docs, "measured": result}, indent=1, ensure_ascii=False))
        return
    console = _console()
    if found is not None:
        console.print(f"[bold]{found.title}[/]  {found.summary}", highlight=False)
        console.print(f"[dim]{found.paper}[/]\n{found.url}", highlight=False)
        extras = f", needs dovetail[{','.join(found.extras)}]" if found.extras else ""
        console.print(f"slot {found.slot}, {found.status}{extras}", highlight=False)
    for place, text in docs.items():
        console.print(f"\n[bold]{place}[/]", highlight=False)
        console.print(text or "(not written yet)", markup=False, highlight=False)
    if result is not None:
        console.print()
        _show_claims(console, result)


@app.command()
def tasks(as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False) -> None:
    """List the tasks that are known by name."""
    from dovetail.benchmarks import known

    found = known()
    typer.echo(json.dumps(found, indent=1) if as_json else "\n".join(found))
    if not as_json:
        typer.echo("\nand files (.jsonl, .csv, .parquet) and hf:NAME[:CONFIG][:SPLIT]", err=True)


def _docstring(module: str, name: str) -> str:
    """A class's docstring and fields, read from its source: what it depends on need not be installed."""
    import ast
    import inspect
    from importlib.util import find_spec

    try:
        spec = find_spec(module)
    except ModuleNotFoundError:
        spec = None
    if spec is None or spec.origin is None:
        return ""
    for node in ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            fields = [ast.unparse(n) for n in node.body if isinstance(n, ast.AnnAssign)]
            parameters = "\n\nParameters:\n    " + "\n    ".join(fields) if fields else ""
            return inspect.cleandoc(ast.get_docstring(node) or "") + parameters
    return ""


def _result(system: System | None) -> dict[str, Any] | None:
    if system is None or system.result is None:
        return None
    from dovetail.recipes import read

    return read(system.id)


# --- experiments ------------------------------------------------------------------------------------


@app.command()
def reproduce(
    ids: Annotated[list[str] | None, typer.Argument(help="Of the catalog.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All recipes there are.")] = False,
    scale: Annotated[
        Literal["smoke", "pico", "full"],
        typer.Option(help="smoke: seconds; pico: minutes on two cores; full: the paper's model and data."),
    ] = "pico",
    seed: Annotated[int, typer.Option(help="All of the recipe's seeds derive from it.")] = 0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder; by default results/ at pico.")
    ] = None,
) -> None:
    """Run a system beside its baseline; check its claims."""
    from dovetail import recipes

    if bool(ids) == everything:
        raise InvalidValue("ID", " ".join(ids or ()), "one or more ids, or --all instead")
    wanted = recipes.available() if everything else ids or ()
    for id in wanted:  # before the first of them takes its minutes
        recipes.check(id)
    failed = []
    for id in wanted:
        typer.echo(f"{id}: running at scale {scale}", err=True)
        try:
            result = recipes.run(id, scale, seed, out)
        except Exception as error:
            if not everything:
                raise
            failed.append(id)
            typer.echo(f"{id}: {type(error).__name__}: {error}", err=True)
            continue
        _show_claims(_console(), result)
        typer.echo(f"result: {(out / f'{id}.json') if out else recipes.path(id, scale)}\n")
    if failed:
        typer.echo(f"{len(failed)} recipes did not end: {', '.join(failed)}", err=True)
        raise typer.Exit(FAILED)


def _show_claims(console: Console, result: dict[str, Any]) -> None:
    from rich.table import Table

    console.print(f"[bold]{result['id']}[/] at scale {result['scale']}, {result['date']}", highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("claim", "paper", "measured", "95% interval", "verdict"):
        table.add_column(column, overflow="fold")
    colour = {"holds": "green", "fails": "red", "inconclusive": "yellow"}
    for claim in result["claims"]:
        low, high = claim["interval"]
        main_mark = " [bold](main)[/]" if claim["main"] else ""
        table.add_row(
            claim["text"] + main_mark,
            str(claim["paper"]),
            _number(claim["measured"]),
            f"{_number(low)} to {_number(high)}",
            f"[{colour[claim['verdict']]}]{claim['verdict']}[/]",
        )
    console.print(table)
    for note in result.get("notes", ()):
        console.print(f"- {note}", markup=False, highlight=False)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


@pico.command("train")
def pico_train(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the model.")] = Path("runs/pico"),
    seed: Annotated[int, typer.Option(help="Of corpus, initial weights and order.")] = 0,
    draft: Annotated[bool, typer.Option("--draft", help="pico-draft, the small one.")] = False,
    mdlm: Annotated[bool, typer.Option("--mdlm", help="pico-mdlm, the masked diffusion model.")] = False,
    workers: Annotated[int, typer.Option(help="Processes of one thread each.")] = 2,
    anew: Annotated[bool, typer.Option("--anew", help="Do not go on from a checkpoint.")] = False,
) -> None:
    """Train pico from its seed, on a CPU."""
    from dovetail.training.pico import mdlm as masked
    from dovetail.training.pico import train

    if draft and mdlm:
        raise InvalidValue("--mdlm", mdlm, "given without --draft")
    if mdlm:
        folder = masked.train(out, seed, resume=not anew, workers=workers, report=_echo)
    else:
        folder = train.train_pico(out, seed, draft, resume=not anew, workers=workers, report=_echo)
    typer.echo(f"model: {folder}")


def _echo(text: str) -> None:  # a function of the module: worker processes must be able to find it
    typer.echo(text)


# --- printing ---------------------------------------------------------------------------------------


def _console() -> Console:
    from rich.console import Console

    # In a pipe or a log there is no width to fit; rich would take 80 columns and fold tables.
    return Console() if sys.stdout.isatty() or "COLUMNS" in os.environ else Console(width=140)


def _complain(error: Exception) -> None:
    """One line on stderr, red on a terminal."""
    text = " ".join(str(error).split())
    typer.secho(f"dovetail: {text}", fg="red" if sys.stderr.isatty() else None, err=True)


if __name__ == "__main__":
    main()
