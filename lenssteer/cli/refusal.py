"""`lenssteer refusal`: two prompt files to the refusal direction and its steerers."""

from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.options import (
    Backend,
    BackendOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelName,
    SystemOption,
    TemplateOption,
    emit,
    friendly,
    load,
    require_writable,
)

SHOWN = 10


@friendly
def refusal(
    model: ModelName,
    positive: Annotated[Path, typer.Option(help="Prompts the model refuses (txt, csv, jsonl, json, parquet).")],
    negative: Annotated[Path, typer.Option(help="Prompts it answers.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    column: Annotated[str | None, typer.Option(help="Column that holds the prompts.")] = None,
    train: Annotated[int, typer.Option(help="Prompts of each class that directions are computed from.")] = 128,
    validation: Annotated[int, typer.Option(help="Other prompts of each class, on which one is chosen.")] = 32,
    sites: Annotated[str, typer.Option(help="Stream the candidates are read at.")] = "resid_pre",
    max_kl: Annotated[float, typer.Option(help="Largest KL that ablation may cost on harmless prompts.")] = 0.1,
    min_induce: Annotated[float, typer.Option(help="Refusal log-odds that addition must exceed on them.")] = 0.0,
    keep_all: Annotated[bool, typer.Option("--no-filter", help="Keep prompts that the metric does not class as "
                                           "expected.")] = False,
    compat: Annotated[str | None, typer.Option(help="arditi: epsilons and boundaries of the authors' code.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    template: TemplateOption = None,
    system: SystemOption = None,
    backend: BackendOption = Backend.hooked,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Find the direction that carries refusal, and write it with the steerers made from it."""
    from lenssteer.prompts import ContrastSet
    from lenssteer.recipe.refusal import INTERVENTIONS, refusal_direction
    from lenssteer.recipe.refusal_metric import require_compat

    require_compat(compat)
    require_writable(output / "refusal.json")
    contrast = ContrastSet.from_files(positive, negative, column=column)
    parts = contrast.split({"train": train, "validation": validation}, seed=seed)
    lens = load(model, backend, device, dtype, template)
    found = refusal_direction(lens, parts["train"], parts["validation"], sites=sites, filter=not keep_all,
                              compat=compat, max_kl=max_kl, min_induce=min_induce, system=system, progress="refusal")
    found.save(output)
    for intervention in INTERVENTIONS:
        found.steerer(intervention).save(output / intervention)
    words = [lens.tokenizer.decode([token]) for token in found.tokens]
    if as_json:
        emit({"output": str(output), "direction": str(found.direction.site), "position": found.position,
              "tokens": list(found.tokens), "words": words, "rule": found.rule, "candidates": found.table(),
              "record": dict(found.record)})
        return
    _print(found.table(), words)
    site = found.direction.site
    typer.echo(f"{found.record['seconds']:.1f} s -> {output}; direction from {site}, position {found.position}, rule "
               f"{found.rule!r}\n\nNext:  lenssteer generate {model} --steer {output / 'ablation'} \"your prompt\"\n"
               f"       lenssteer orthogonalise {model} --direction {output} -o {output / 'model'}")


def _print(lines: list[dict[str, Any]], words: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table

    shown = " ".join(repr(word) for word in words[:SHOWN])
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    table = Table(caption=f"refusal log-odds by the tokens {shown}{more}; * chosen, then by bypass")
    for heading in ("site", "position", "length", "bypass", "induce", "kl"):
        table.add_column(heading, justify="left" if heading == "site" else "right", no_wrap=True)
    for line in lines[:SHOWN]:
        table.add_row(line["site"] + (" *" if line["chosen"] else ""), str(line["position"]),
                      *(f"{line[name]:.2f}" for name in ("length", "bypass", "induce")), f"{line['kl']:.3f}")
    Console().print(table)
