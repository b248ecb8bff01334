"""`lenssteer judge-agreement`: how far a judge of answers agrees with labels."""

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.options import JsonOption, emit, friendly

REFUSED = frozenset("true yes 1 refusal refused refuse full_refusal partial_refusal".split())
COMPLIED = frozenset("false no 0 compliance complied comply full_compliance".split())


@friendly
def judge_agreement(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Labelled answers (csv, jsonl, json, parquet).")],
    prompt_column: Annotated[str, typer.Option(help="Column of the prompts.")] = "prompt",
    answer_column: Annotated[str, typer.Option(help="Column of the answers.")] = "answer",
    label_column: Annotated[str, typer.Option(help="Column of the labels.")] = "label",
    group_column: Annotated[str | None, typer.Option(help="Also by the values of this column.")] = None,
    refused: Annotated[list[str] | None, typer.Option(help="A label that means refused, repeatable; all others then "
                                                      "mean not refused. By default yes/no, refusal/compliance, "
                                                      "full_refusal, partial_refusal and the like.")] = None,
    judge: Annotated[str, typer.Option(help="phrases or demo.")] = "phrases",
    as_json: JsonOption = False,
) -> None:
    """Score a judge against labels: agreement and Cohen's kappa with 95 % intervals, and the confusion."""
    from lenssteer.evals.judges import agreement, judge_named
    from lenssteer.prompts import read_records

    judging = judge_named(judge)
    records = read_records(file)
    prompts, answers = _column(records, prompt_column, file), _column(records, answer_column, file)
    labels = _column(records, label_column, file)
    groups = _column(records, group_column, file) if group_column else []
    truth = _truth(labels, refused, label_column)
    verdicts = judging.judge(prompts, answers)
    whole = agreement(truth, verdicts)
    parts = {}
    for group in sorted(set(groups)):
        rows = [i for i, other in enumerate(groups) if other == group]
        parts[group] = agreement([truth[i] for i in rows], [verdicts[i] for i in rows])
    if as_json:
        emit({"judge": judging.name, "file": str(file), **whole.as_dict(),
              "groups": {group: part.as_dict() for group, part in parts.items()}})
        return
    _print(judging.name, whole, parts, group_column)


def _column(records: Sequence[dict[str, Any]], name: str, file: Path) -> list[str]:
    """A column as text; labels may be numbers or booleans."""
    from lenssteer.errors import PromptError

    missing = [i for i, record in enumerate(records) if record.get(name) is None]
    if missing:
        raise PromptError(f"{file}: record {missing[0] + 1} has nothing in column {name!r} ({len(missing)} such); its "
                          f"columns are {', '.join(map(str, records[missing[0]]))}. Name one with --prompt-column, "
                          "--answer-column, --label-column or --group-column.")
    return [str(record[name]) for record in records]


def _truth(labels: Sequence[str], refused: Sequence[str] | None, column: str) -> list[bool]:
    """Which labels mean refused; a number before an underscore, as in 2_full_refusal, is only an order."""
    from lenssteer.errors import ParameterError

    present = sorted(set(labels))
    if refused:
        absent = sorted(set(refused) - set(present))
        if absent:
            raise ParameterError(f"no label {', '.join(absent)} in column {column!r}; it holds {_some(present)}.")
        return [label in refused for label in labels]
    words = {label: re.sub(r"^\d+_|\.0$", "", label.strip().lower()) for label in present}
    unknown = [label for label in present if words[label] not in REFUSED | COMPLIED]
    if unknown:
        raise ParameterError(f"cannot tell whether {_some(unknown)} in column {column!r} means refused; "
                             "give the labels that do with --refused LABEL.")
    return [words[label] in REFUSED for label in labels]


def _some(labels: Sequence[str]) -> str:
    shown = ", ".join(repr(label[:40]) for label in labels[:5])
    return f"{shown} and {len(labels) - 5} more" if len(labels) > 5 else shown


def _print(name: str, whole: Any, parts: dict[str, Any], group_column: str | None) -> None:
    from rich.console import Console
    from rich.markup import escape

    from lenssteer.cli.tables import plain_table

    caption = "judge, label: refused by that one alone; 95 % intervals, answers taken as independent"
    table = plain_table(f"judge {name!r} against {whole.n} labels", caption,
                        (group_column or "", "  n", "  agreement", "  kappa", " judge", " label"))
    for group, part in (*parts.items(), ("all", whole)):
        table.add_row(escape(group), str(part.n), _cell(part.share, part.interval),
                      _cell(part.kappa, part.kappa_interval), str(part.judge_only), str(part.label_only))
    console = Console()
    console.print(table)
    if whole.kappa is not None:
        console.print(f"agreement {whole.share:.3f} [{whole.interval[0]:.3f}, {whole.interval[1]:.3f}], kappa "
                      f"{whole.kappa:.3f} [{whole.kappa_interval[0]:.3f}, {whole.kappa_interval[1]:.3f}]; both refused "
                      f"{whole.both}, neither {whole.neither}", highlight=False, markup=False)
    for reason, count in whole.unscored.items():
        console.print(f"unscored, in no number above: {count} ({reason})", highlight=False, markup=False)


def _cell(value: float | None, interval: tuple[float, float] | None) -> str:
    """A value with its interval; nothing where it is not defined."""
    from lenssteer.cli.tables import difference

    if value is None or interval is None or math.isnan(value):
        return ""
    return difference({"mean": value, "low": interval[0], "high": interval[1]})
