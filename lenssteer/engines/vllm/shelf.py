"""A shelf: a folder whose subfolders are steerers and calibrations, read and checked before anything is served.

    steerers/refusal/calibration.json        a calibration: a method with a parameter to be set by each request
    steerers/refusal/serve.json              which method, and what a request may set; see `Serving`
    steerers/brief/steerer.json              a saved steerer: a request may set its strength
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lenssteer.engines.vllm.asked import STEERER, Asked, Offer
from lenssteer.engines.vllm.entry import KINDS, NAME, Entry, read_entry
from lenssteer.errors import FileError, ParameterError
from lenssteer.models import ModelCard
from lenssteer.site import Site
from lenssteer.steering import Steerer

KEPT = 64
"""How many built steerers a shelf keeps."""


class Shelf:
    """Steerers by name; `open` makes one.

    Args:
        folder: Where it was read from.
        entries: By name.
        grows: Whether folders that appear later are served too; a request may then make a known folder be read.
    """

    def __init__(self, folder: Path, entries: Mapping[str, Entry], grows: bool = False) -> None:
        self.folder = folder
        self.entries = dict(entries)
        self.grows = grows
        self._built: OrderedDict[str, Steerer] = OrderedDict()

    @classmethod
    def open(cls, folder: Path | str, *, grows: bool = False) -> "Shelf":
        """Read and try every subfolder; hidden ones and files are left out.

        Args:
            folder: Of steerers and calibrations.
            grows: Whether it may be empty now, and gets more while it is in use.

        Raises:
            FileError: when the folder or a subfolder cannot be served, with its name.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise FileError(f"{folder} is not a folder; expected one whose subfolders are steerers or calibrations.")
        if any((folder / f"{kind}.json").is_file() for kind in KINDS):
            raise FileError(f"{folder} is itself a saved artefact; expected a folder of such folders, each under the "
                            "name that requests use.")
        names = sorted(one.name for one in folder.iterdir() if one.is_dir() and not one.name.startswith("."))
        if not names and not grows:
            raise FileError(f"{folder} is empty; save a steerer or a calibration into a subfolder of it.")
        return cls(folder, {name: read_entry(folder, name) for name in names}, grows)

    @property
    def offers(self) -> dict[str, Offer]:
        """What requests may ask for, by name."""
        return {name: entry.offer for name, entry in self.entries.items()}

    def read(self, extra_args: Mapping[str, Any] | None) -> Asked | None:
        """What a request asks for; see `Asked.read`.

        Raises:
            ParameterError: when it cannot be had.
        """
        name = (extra_args or {}).get(STEERER)
        if self.grows and isinstance(name, str) and name not in self.entries and NAME.fullmatch(name):
            self._look_for(name)
        return Asked.read(extra_args, self.offers)

    def _look_for(self, name: str) -> None:
        if (self.folder / name).is_dir():
            self.entries[name] = read_entry(self.folder, name)

    def steerer(self, asked: Asked) -> Steerer:
        """The steerer that a request asks for; the last ones are kept.

        Raises:
            ParameterError: when the shelf holds something else under that name.
        """
        if asked.key in self._built:
            self._built.move_to_end(asked.key)
            return self._built[asked.key]
        entry = self.entries.get(asked.name)
        if entry is None or entry.offer.digest != asked.digest:
            raise ParameterError(f"{self.folder} no longer holds {asked.name!r} as it was asked for; start the server "
                                 "again after its folder was changed.")
        steerer = self._built[asked.key] = entry.steerer(dict(asked.parameters))
        if len(self._built) > KEPT:
            self._built.popitem(last=False)
        return steerer

    def sites(self) -> tuple[Site, ...]:
        """Every site at which an entry edits or reads a condition, in network order."""
        return tuple(sorted({site for entry in self.entries.values() for site in entry.sites}))

    def check(self, card: ModelCard) -> None:
        """Refuse a model that an entry was not made for.

        Raises:
            FileError: with the entry's name and what differs.
        """
        for name, entry in self.entries.items():
            entry.check(card, self.folder / name)
