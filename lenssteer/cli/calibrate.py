"""`lenssteer calibrate`: two prompt files to a calibration folder."""

from pathlib import Path
from typing import Annotated

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


@friendly
def calibrate(
    model: ModelName,
    positive: Annotated[Path, typer.Option(help="Prompts with the property, such as harmful ones (txt, csv, jsonl, "
                                           "json, parquet).")],
    negative: Annotated[Path, typer.Option(help="Prompts without it.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    column: Annotated[str | None, typer.Option(help="Column that holds the prompts.")] = None,
    sites: Annotated[str, typer.Option(help="norm_out, or a stream such as resid_post.")] = "norm_out",
    at: Annotated[str, typer.Option(help="Token read: last, last_instruction, offset(-2), mean(prompt), ...")] = "last",
    rule: Annotated[str, typer.Option(help="Discriminative sites by unit_means (authors' code) or means (paper).")]
    = "unit_means",
    limit: Annotated[int | None, typer.Option(help="Use so many prompts of each class, drawn by seed.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    template: TemplateOption = None,
    system: SystemOption = None,
    backend: BackendOption = Backend.hooked,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Learn directions, a plane and discriminative sites from two prompt files."""
    from lenssteer.prompts import ContrastSet
    from lenssteer.recipe import calibrate as learn

    require_writable(output / "calibration.json")
    contrast = ContrastSet.from_files(positive, negative, column=column)
    if limit is not None:
        contrast = contrast.split({"calibration": limit}, seed=seed)["calibration"]
    lens = load(model, backend, device, dtype, template)
    calibration = learn(lens, contrast, sites=sites, at=at, rule=rule, system=system,
                        progress="reading prompts")
    calibration.save(output)
    if as_json:
        emit({"output": str(output), "direction": str(calibration.direction.site),
              "discriminative": [str(site) for site in calibration.discriminative], "layers": calibration.table(),
              "record": dict(calibration.record)})
        return
    kept = len(calibration.discriminative)
    typer.echo(f"{calibration.record['prompts']} prompts, {len(calibration.sites)} sites, "
               f"{calibration.record['seconds']:.1f} s -> {output}")
    typer.echo(f"global direction: {calibration.direction.site}; discriminative sites: {kept}")
    steer = f"--steer {output} --degrees 180" if kept else f"--steer {output} --method ablation"
    typer.echo(f"\nNext:  lenssteer layers {output}\n       lenssteer generate {model} {steer} \"your prompt\"")
