"""`lenssteer search`: the best setting of a method under constraints; a killed search goes on from its folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.complete import complete_choices, complete_methods, complete_where
from lenssteer.cli.options import (
    Backend,
    BackendOption,
    BatchSizeOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    ModelName,
    SystemOption,
    TemplateOption,
    emit,
    friendly,
    load,
    named_values,
    require_writable,
    warn_of_seen,
)
from lenssteer.progress import stages


@friendly
def search(
    model: ModelName,
    steer: Annotated[Path, typer.Option(help="Calibration folder.")],
    prompts: Annotated[Path, typer.Option(help="Prompts a setting is chosen on, none of them calibrated on; test it on "
                                          "others.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the search.")],
    method: Annotated[str, typer.Option(autocompletion=complete_methods,
                                        help="A name that `lenssteer methods` lists.")] = "selective",
    grid: Annotated[str | None, typer.Option(help="degrees=0:360:10 (360 left out), or coefficient=-2,-1,0.")] = None,
    range_: Annotated[str | None, typer.Option("--range", help="coefficient=-4:0: settings in between are drawn by "
                                               "optuna.")] = None,
    negative: Annotated[Path | None, typer.Option(help="Prompts the unsteered model already treats as wanted, such as "
                                                  "harmless ones.")] = None,
    column: Annotated[str | None, typer.Option(help="Column that holds the prompts.")] = None,
    objective: Annotated[str, typer.Option(help="A score to raise, or lower: answers, refused:down, refused:up, "
                                           "on_form, ...")] = "answers",
    constraint: Annotated[list[str] | None, typer.Option(help="NAME<=LIMIT, such as nll<=unsteered+0.5 or kl<=0.5; may "
                                                         "be repeated. By default repeated_ngrams<=0.25 and "
                                                         "empty<=0.1.")] = None,
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Another parameter of the "
                                                       "method; may be repeated.")] = None,
    sites: Annotated[str | None, typer.Option(autocompletion=complete_choices,
                                              help="Where it acts: discriminative, all, or a list of sites.")] = None,
    source: Annotated[str | None, typer.Option(help="Site whose direction is used.")] = None,
    where: Annotated[str | None, typer.Option(autocompletion=complete_where,
                                              help="Which tokens: all, prompt, generated, ...")] = None,
    judge: Annotated[str, typer.Option(help="Who says what refuses or harms: phrases, demo, harmbench:FOLDER, "
                                       "llm:MODEL@URL, ...")] = "phrases",
    share: Annotated[float, typer.Option(help="Of the tokens of every setting on every prompt.")] = 0.19,
    trials: Annotated[int, typer.Option(help="Settings drawn from a range.")] = 36,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    seed: Annotated[int, typer.Option(help="Of the order of the prompts, and of the sampler.")] = 0,
    batch_size: BatchSizeOption = None,
    template: TemplateOption = None,
    system: SystemOption = None,
    backend: BackendOption = Backend.hf,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Search the best setting of a method; the same command goes on where a killed one stopped."""
    from lenssteer.evals.judges import judge_named
    from lenssteer.models import Decoding
    from lenssteer.prompts import read_prompts
    from lenssteer.recipe import Calibration
    from lenssteer.sweeps.material import calibration_sha256
    from lenssteer.sweeps.search import CONSTRAINTS, Constraint, Goal, Plan, run_search

    space, goal, plan = _space(method, grid, range_), Goal.parse(objective), Plan(share, trials, seed)
    constraints = [Constraint.parse(text) for text in constraint or CONSTRAINTS]
    by = judge_named(judge)
    require_writable(output / "search.json")
    asked = read_prompts(prompts, column=column)
    wanted = read_prompts(negative, column=column) if negative else []
    calibration, chosen = Calibration.load(steer), _several(sites)
    given = named_values(settings or [])

    def steerer_for(amounts: Any) -> Any:
        return calibration.steerer(method, sites=chosen, source=source, where=where, **given, **{space.name: amounts})

    steerer = steerer_for(space.low)
    warn_of_seen(calibration.record.get("seen", []), asked)
    lens = load(model, backend, device, dtype, template or calibration.record.get("template"))
    steerer.check(lens)
    about = {"calibration": calibration_sha256(calibration), "method": method, "sites": list(map(str, steerer.sites)),
             "source": source, "where": str(steerer.where), "settings": given, "dtype": dtype, "backend": backend.value}
    with stages("searching") as tell:
        result = run_search(lens, steerer_for, space, asked, output, goal=goal, constraints=constraints, wanted=wanted,
                            about=about, plan=plan, decoding=Decoding(max_new_tokens), judge=by, system=system,
                            batch_size=batch_size, tell=tell)
    more = [f"--set {setting}" for setting in settings or []]
    more += [f"--{name} {value}" for name, value in (("sites", sites), ("source", source), ("where", where)) if value]
    _show(result, f"lenssteer generate {model} --steer {steer} --method {method}", more, output, as_json)


def _space(method: str, grid: str | None, range_: str | None) -> Any:
    from lenssteer.errors import ParameterError
    from lenssteer.methods import find_method
    from lenssteer.sweeps.search import Space

    amount = find_method(method).amount
    if amount is None:
        raise ParameterError(f"{method} has no amount to search.")
    if (grid is None) == (range_ is None):
        raise ParameterError(f"give either --grid {amount.name}=START:STOP:STEP or --range {amount.name}=LOW:HIGH.")
    space = Space.grid(grid) if grid is not None else Space.range(range_ or "")
    if space.name != amount.name:
        raise ParameterError(f"{method} is searched over {amount.name} ({amount.meaning}); got {space.name}.")
    return space


def _several(names: str | None) -> Any:
    return [name.strip() for name in names.split(",")] if names and "." in names else names


def _show(result: Any, command: str, more: Sequence[str], output: Path, as_json: bool) -> None:
    setting = f"--set {result.name}={result.amount!r}" if result.amount is not None else ""
    following = " ".join([command, setting, *more, '"your prompt"']) if setting else ""
    if as_json:
        emit({**result.as_dict(), "output": str(output), "next": following})
        return
    _table(result)
    states = [trial["state"] for trial in result.trials]
    typer.echo(f"{len(states)} settings: {states.count('complete')} on all prompts, {states.count('pruned')} dropped"
               + (f", {states.count('fail')} broke the model" if "fail" in states else ""))
    typer.echo(f"{result.cost['tokens']:.0f} tokens, about {100 * result.share:.0f} % of the {result.grid_tokens:.0f} "
               f"of every setting on every prompt; {result.cost['seconds']:.1f} s")
    if result.amount is None:
        typer.echo("no setting has a value of the objective.")
    elif not result.feasible:
        typer.secho(f"every finalist breaks a constraint ({', '.join(result.constraints)}); {result.amount:g} breaks "
                    "them least.", fg=typer.colors.YELLOW)
    if following:
        typer.echo(f"Next:  {following}")


def _table(result: Any) -> None:
    from rich.console import Console

    from lenssteer.cli.tables import plain_table, short

    goal = result.objective.partition(":")[0]
    names = [goal, *(name for name in result.unsteered if name != goal)]
    names += ["kl"] * any("kl" in one.means for one in result.finalists)
    table = plain_table(f"finalists on {result.n} selection prompts, best first",
                        f"objective {result.objective}; constraints {', '.join(result.constraints) or 'none'}\n"
                        "[]: Wilson 95 %, of a setting that was chosen as the best: test it on other prompts",
                        [result.name, *names, "keeps them"])

    def cell(mean: float | None) -> str:
        return "unscored" if mean is None else short(mean)

    for one in result.finalists:
        interval = "" if one.low is None else f"[{short(one.low)},{short(one.high)}]"
        table.add_row(f"{one.amount:g}", cell(one.means.get(goal)) + interval,
                      *(cell(one.means.get(name)) for name in names[1:]), "yes" if one.kept else "no")
    table.add_row("unsteered", *(cell(result.unsteered.get(name)) for name in names), "")
    Console().print(table)
