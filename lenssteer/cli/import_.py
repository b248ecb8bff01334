"""`lenssteer import`: vectors and planes of other tools as steerers."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lenssteer.cli.complete import complete_choices, complete_models, complete_where
from lenssteer.cli.options import (
    Backend,
    BackendOption,
    DeviceOption,
    DtypeOption,
    JsonOption,
    emit,
    friendly,
    load,
    require_writable,
)


class Source(StrEnum):
    """Who wrote the file."""

    auto = "auto"
    repeng = "repeng"
    steering_vectors = "steering-vectors"
    planes = "planes"


@friendly
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="GGUF, safetensors, npy or JSON; no pickle.")],
    model: Annotated[str, typer.Option(autocompletion=complete_models, help="The model it is for.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the steerer.")],
    source: Annotated[Source, typer.Option("--from", help="repeng: a GGUF control vector, also of llama.cpp. "
                                           "steering-vectors: vectors by layer. planes: of Selective or Angular "
                                           "Steering. auto: by what the file holds.")] = Source.auto,
    coefficient: Annotated[float, typer.Option(help="Multiple of the vectors.")] = 1.0,
    degrees: Annotated[float | None, typer.Option(help="Angle of a rotation in the planes.")] = None,
    method: Annotated[str, typer.Option(help="With planes: selective, standard-angular or adaptive-angular.")]
    = "selective",
    sites: Annotated[str | None, typer.Option(autocompletion=complete_choices,
                                              help="Which of the file's sites to use, or where a vector or plane "
                                              "without a place goes: norm_out, or resid_post.5,resid_post.6.")] = None,
    where: Annotated[str, typer.Option(autocompletion=complete_where, help="Which tokens are edited.")] = "all",
    backend: BackendOption = Backend.hf,
    device: DeviceOption = "cpu",
    dtype: DtypeOption = "float32",
    as_json: JsonOption = False,
) -> None:
    """Make a steerer of vectors or planes that another tool wrote, after checking that they fit the model."""
    from lenssteer.exports import import_steerer

    require_writable(output / "steerer.json")
    lens = load(model, backend, device, dtype, None)
    steerer = import_steerer(file, lens, source=source.value, coefficient=coefficient, degrees=degrees, method=method,
                             sites=sites, where=where)
    steerer.save(output)
    found = steerer.provenance
    if as_json:
        emit({"output": str(output), "from": found["imported"], "method": found["method"], "sha256": found["sha256"],
              "sites": [str(site) for site in steerer.sites]})
        return
    typer.echo(f"{output}: {found['method']} at {len(steerer.sites)} sites, {steerer.sites[0]} to {steerer.sites[-1]}, "
               f"from {found['imported']}")
    typer.echo(f"\nNext:  lenssteer generate {model} --steer {output} --compare \"your prompt\"")
