"""`lenssteer calibrate`: two prompt files to a calibration folder."""

import random
from pathlib import Path
from typing import Annotated, Any

import typer

from lenssteer.cli.complete import complete_finders, complete_planes, complete_sites
from lenssteer.cli.options import (
    Backend,
    BackendOption,
    DeviceOption,
    DtypeOption,
    GpusOption,
    JsonOption,
    ModelName,
    RayOption,
    SystemOption,
    TemplateOption,
    WorkersOption,
    emit,
    friendly,
    load,
    require_writable,
)


@friendly
def calibrate(
    model: ModelName,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    positive: Annotated[Path | None, typer.Option(help="Prompts with the property, such as harmful ones (txt, csv, "
                                                  "jsonl, json, parquet).")] = None,
    negative: Annotated[Path | None, typer.Option(help="Prompts without it.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="In place of both: A/B questions of CAA, read at the letter.")]
    = None,
    column: Annotated[str | None, typer.Option(help="Column that holds the prompts.")] = None,
    sites: Annotated[str, typer.Option(autocompletion=complete_sites,
                                       help="norm_out, or a stream such as resid_post.")] = "norm_out",
    at: Annotated[str | None, typer.Option(help="Token read: last (default), last_instruction, offset(-2), "
                                           "mean(prompt), answer(-2) (default of --pairs), ...")] = None,
    finder: Annotated[str, typer.Option(autocompletion=complete_finders,
                                        help="How directions are found: mean_difference, fisher, logistic, ...")]
    = "mean_difference",
    plane: Annotated[str, typer.Option(autocompletion=complete_planes,
                                       help="Plane of rotations: pca, leading, fisher, karcher.")] = "pca",
    rule: Annotated[str, typer.Option(help="Discriminative sites by unit_means (authors' code) or means (paper).")]
    = "unit_means",
    scatter: Annotated[bool | None, typer.Option(help="Keep second moments, d_model x d_model a site; by default below "
                                                 "64 MiB.")] = None,
    samples: Annotated[bool | None, typer.Option(help="Keep the activations, which probes, conditions and AlphaSteer "
                                                 "can do with; by default below 64 MiB.")] = None,
    limit: Annotated[int | None, typer.Option(help="Use so many prompts of each class, drawn by seed.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draw.")] = 0,
    template: TemplateOption = None,
    system: SystemOption = None,
    backend: BackendOption = Backend.hooked,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    ray: RayOption = None,
    workers: WorkersOption = None,
    gpus_per_worker: GpusOption = None,
    as_json: JsonOption = False,
) -> None:
    """Learn directions, a plane and discriminative sites from two prompt files; the same command goes on where a
    killed one stopped."""
    require_writable(output / "calibration.json")
    contrast = _contrast(positive, negative, pairs, column, limit, seed)
    options = {"sites": sites, "at": at or ("answer(-2)" if pairs else "last"), "rule": rule, "system": system,
               "finder": finder, "plane": plane, "scatter": scatter, "samples": samples, "progress": "reading prompts"}
    if ray is None:
        from lenssteer.artefacts.lines import pieces_inside
        from lenssteer.artefacts.unfinished import unfinished
        from lenssteer.recipe import calibrate as learn

        with unfinished(pieces_inside(output), "calibrating into", {"dtype": dtype, "device": device}) as kept:
            calibration = learn(load(model, backend, device, dtype, template), contrast, kept=kept, **options)
            calibration.save(output)
    else:
        from lenssteer.cli.pool import pool_of, spec_of
        from lenssteer.cluster import cluster_calibrate

        with pool_of(ray, workers, gpus_per_worker, device) as pool:
            [calibration] = cluster_calibrate(pool, [spec_of(model, backend, device, dtype, template)], contrast,
                                              **options)
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


def _contrast(positive: Path | None, negative: Path | None, pairs: Path | None, column: str | None, limit: int | None,
              seed: int) -> Any:
    from lenssteer.errors import PromptError
    from lenssteer.prompts import AnswerContrast, ContrastSet, read_records

    if pairs is not None and positive is None and negative is None:
        records = read_records(pairs)
        drawn = random.Random(seed).sample(records, min(limit, len(records))) if limit is not None else records
        return AnswerContrast.from_pairs(drawn, pairs.stem)
    if positive is None or negative is None or pairs is not None:
        raise PromptError("give --positive FILE and --negative FILE, or --pairs FILE.")
    contrast = ContrastSet.from_files(positive, negative, column=column)
    return contrast.split({"calibration": limit}, seed=seed)["calibration"] if limit is not None else contrast
