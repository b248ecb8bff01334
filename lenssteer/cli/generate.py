"""`lenssteer generate`: answers with and without a steerer."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.complete import complete_choices, complete_methods, complete_schedules, complete_where
from lenssteer.cli.engine import EngineName, EngineOption, EngineSettings, load_speaker
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
    folder_kind,
    friendly,
    named_values,
)


@friendly
def generate(
    model: ModelName,
    prompts: Annotated[list[str] | None, typer.Argument(metavar="PROMPT...", help="One or more prompts.")] = None,
    file: Annotated[Path | None, typer.Option("--prompts", help="Read prompts from a file instead.")] = None,
    column: Annotated[str | None, typer.Option(help="Column of that file.")] = None,
    steer: Annotated[Path | None, typer.Option(help="Calibration or steerer folder; none: unsteered.")] = None,
    method: Annotated[str, typer.Option(help="With a calibration: a name that `lenssteer methods` lists.",
                                        autocompletion=complete_methods)]
    = "selective",
    settings: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A parameter of the method; "
                                                       "may be repeated.")] = None,
    degrees: Annotated[float | None, typer.Option(help="Angle of a rotation.")] = None,
    coefficient: Annotated[float | None, typer.Option(help="Multiple of the class difference, for addition.")] = None,
    sites: Annotated[str | None, typer.Option(autocompletion=complete_choices,
                                              help="discriminative, all, or sites such as resid_post.5,"
                                              "resid_post.6.")] = None,
    source: Annotated[str | None, typer.Option(help="Site whose direction is used.")] = None,
    where: Annotated[str | None, typer.Option(autocompletion=complete_where,
                                              help="all, prompt, generated, after_instruction, last_prompt, "
                                              "first_n(3). By default the method's own.")] = None,
    schedule: Annotated[str | None, typer.Option(autocompletion=complete_schedules,
                                                 help="Strength along the answer: linear(16), cosine(16), first_n(4). "
                                                 "By default constant.")] = None,
    compare: Annotated[bool, typer.Option(help="Show the unsteered answer beside.")] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(help="0 is greedy.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed of sampling.")] = 0,
    template: TemplateOption = None,
    system: SystemOption = None,
    backend: BackendOption = Backend.hooked,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    engine: EngineOption = EngineName.torch,
    engine_settings: EngineSettings = None,
    batch_size: BatchSizeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer prompts with a steered model, and say what the edit did."""
    from lenssteer.errors import PromptError
    from lenssteer.models import Decoding
    from lenssteer.prompts import read_prompts

    asked = read_prompts(file, column=column) if file else list(prompts or [])
    if not asked:
        raise PromptError("no prompt was given; write one after the model, or use --prompts FILE.")
    given = {"degrees": degrees, "coefficient": coefficient, **named_values(settings or [])}
    steerer, template = steerer_of(steer, method, given, sites, source, where, template)
    steerer = steerer.over(schedule) if steerer is not None and schedule else steerer
    decoding = Decoding(max_new_tokens, temperature, seed=seed)
    lens = load_speaker(model, engine, engine_settings, backend, device, dtype, template)
    wanted = {"unsteered": None} if compare or steerer is None else {}
    wanted |= {"steered": steerer} if steerer is not None else {}
    texts, receipt = _answers(lens, wanted, asked, decoding, system, batch_size)
    _show(asked, texts, receipt, as_json)


def steerer_of(folder: Path | None, method: str, given: dict[str, Any], sites: str | None, source: str | None,
               where: str | None, template: str | None) -> tuple[Any, str | None]:
    """The steerer asked for, and the prompt format it was calibrated with unless another is given."""
    if folder is None:
        return None, template
    from lenssteer.recipe import Calibration
    from lenssteer.steering import Steerer

    if folder_kind(folder) == "steerer":
        steerer = Steerer.load(folder)
        record = steerer.provenance.get("calibration", {})
        return steerer.at(where) if where else steerer, template or record.get("template")
    calibration = Calibration.load(folder)
    chosen = [name.strip() for name in sites.split(",")] if sites and "." in sites else sites
    steerer = calibration.steerer(method, sites=chosen, source=source, where=where, **given)
    return steerer, template or calibration.record.get("template")


def _answers(lens: Any, wanted: dict[str, Any], asked: list[str], decoding: Any,
             system: str | None, batch_size: int | None) -> tuple[dict[str, list[str]], Any]:
    """Answers by name under each steerer, and the receipt of the last."""
    from lenssteer.models import LensModel
    from lenssteer.models import generate as answer

    for steerer in filter(None, wanted.values()):
        steerer.check(lens)
    if not isinstance(lens, LensModel):
        found = lens.answers([(steerer, 1) for steerer in wanted.values()], asked, decoding, system=system)
        return dict(zip(wanted, found, strict=True)), lens.receipts[-1]
    texts, receipts = {}, []
    for name, steerer in wanted.items():
        with nullcontext() if steerer is None else steerer.on(lens) as receipt:
            texts[name] = answer(lens, asked, decoding, system=system, batch_size=batch_size,
                                 progress="answering" if len(asked) > 8 else "")
        receipts.append(receipt)
    return texts, receipts[-1]


def _show(prompts: list[str], texts: dict[str, list[str]], receipt: Any, as_json: bool) -> None:
    if as_json:
        answers = [{"prompt": prompt, **{name: answer[i] for name, answer in texts.items()}}
                   for i, prompt in enumerate(prompts)]
        emit({"answers": answers, "receipt": receipt.as_dict() if receipt else None})
        return
    for i, prompt in enumerate(prompts):
        typer.secho(prompt, bold=True)
        for name, answer in texts.items():
            typer.echo(f"  {typer.style(f'{name}:', fg=typer.colors.CYAN)} {answer[i]}")
    if receipt:
        _show_receipt(receipt)


def _show_receipt(receipt: Any) -> None:
    sites = receipt.sites
    edited = sum(site.edited for site in sites.values())
    seen = sum(site.seen for site in sites.values())
    moved = sum(site.mean_displacement * site.edited for site in sites.values()) / max(edited, 1)
    degrees = sum(site.mean_degrees * site.edited for site in sites.values()) / max(edited, 1)
    typer.secho(f"receipt: {edited} of {seen} token activations edited at {len(sites)} sites (where={receipt.where}), "
                f"mean displacement {moved:.2f}, mean angle {degrees:.1f} degrees", dim=True, err=True)
