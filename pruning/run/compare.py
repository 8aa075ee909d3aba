"""Cuts of one network side by side: what they come to, and how a person reads it."""

from __future__ import annotations

import csv
import io
import json
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from pruning.measure.costs import Spent
from pruning.measure.metric import ERROR
from yolo.errors import DarknetError
from yolo.files import read_bytes
from yolo.tables import table

FORMAT = "comparison of cuts, 1"
COUNTED = tuple(field.name for field in fields(Spent))


@dataclass(frozen=True)
class Cut:
    """One combination: names of options.py, and a target as targets.parse_targets reads it."""

    strategy: str
    importance: str
    target: str
    recover: str

    def __str__(self) -> str:
        return ", ".join(astuple(self))


ORIGINAL = Cut("", "", "", "")  # what isn't cut


@dataclass(frozen=True)
class Measured:
    """What a network costs and how good it is.

    `score` is None where it isn't a finite number. `ms` and `whole_ms` are median milliseconds of
    this network and of the original, which were timed alternately.
    """

    channels: int
    params: int
    macs: int
    bytes: int
    score_name: str
    score: float | None
    ms: float | None = None
    whole_ms: float | None = None

    @property
    def time_share(self) -> float | None:
        """Of the original's milliseconds at that time."""
        return self.ms / self.whole_ms if self.ms and self.whole_ms else None


@dataclass(frozen=True)
class Outcome:
    """What a cut comes to; `note` tells why there is none, or what else is to be said.

    `key` stands for all that it depends on.
    """

    cut: Cut
    key: str
    found: Measured | None
    note: str = ""

    @property
    def lacks_time(self) -> bool:
        return self.cut != ORIGINAL and self.found is not None and self.found.ms is None

    def to_json(self) -> dict[str, object]:
        return {"key": self.key, **asdict(self.cut), **_plain(self.found), "note": self.note}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """Raises an error of dict or of a conversion for what isn't one."""
        cut = Cut(*(_text(data[field.name]) for field in fields(Cut)))
        found = None
        if "score" in data:
            counts = {name: int(data[name]) for name in COUNTED}
            numbers: dict[str, Any] = {
                name: _number(data[name]) for name in ("score", "ms", "whole_ms")
            }
            found = Measured(**counts, score_name=_text(data["score_name"]), **numbers)
        elif cut == ORIGINAL:
            raise ValueError("the original has a score")
        return cls(cut, _text(data["key"]), found, _text(data["note"]))


@dataclass(frozen=True)
class Comparison:
    """The original and its cuts, as far as they are made."""

    original: Measured
    outcomes: Sequence[Outcome]

    @classmethod
    def of(cls, keys: Mapping[Cut, str], known: Mapping[str, Outcome]) -> Comparison | None:
        """Of those that are known by their keys; None where the original isn't."""
        found = [known[key] for cut, key in keys.items() if cut != ORIGINAL and key in known]
        original = known.get(keys[ORIGINAL])
        return cls(original.found, found) if original and original.found else None

    @property
    def score_name(self) -> str:
        return self.original.score_name

    @cached_property
    def whole_ms(self) -> float | None:
        """Median milliseconds of the original, over all times that cuts were compared with."""
        times = [o.found.whole_ms for o in self.outcomes if o.found and o.found.whole_ms]
        return statistics.median(times) if times else None

    def ms(self, found: Measured) -> float | None:
        """Milliseconds as they would be at a time when the original takes `whole_ms`.

        The machine may be faster while one cut is timed than while another is.
        """
        share, whole = found.time_share, self.whole_ms
        return share * whole if share and whole else None

    @cached_property
    def best(self) -> Mapping[str, Outcome]:
        """For every target the outcome with the best score; of equals that with fewer MACs."""
        sign = 1 if self.score_name == ERROR else -1
        ranks: dict[str, list[tuple[float, int, int]]] = {}
        for number, outcome in enumerate(self.outcomes):
            found = outcome.found
            if found and found.score is not None:
                rank = sign * found.score, found.macs, number
                ranks.setdefault(outcome.cut.target, []).append(rank)
        return {target: self.outcomes[min(known)[-1]] for target, known in ranks.items()}

    def lines(self) -> dict[tuple[str, str, str], list[Measured]]:
        """What there is of every strategy, importance and recovery, by MACs."""
        found: dict[tuple[str, str, str], list[Measured]] = {}
        for outcome in self.outcomes:
            cut = outcome.cut
            if outcome.found and outcome.found.score is not None:
                key = cut.strategy, cut.importance, cut.recover
                found.setdefault(key, []).append(outcome.found)
        return {key: sorted(line, key=lambda m: m.macs) for key, line in found.items()}

    def tables(self) -> str:
        """The comparison as a person reads it, target by target; notes stand below by number."""
        targets = list(dict.fromkeys(o.cut.target for o in self.outcomes))
        ordered = sorted(self.outcomes, key=lambda o: targets.index(o.cut.target))
        notes = list(dict.fromkeys(o.note for o in ordered if o.note))
        rows = [self._header(), self._first_row(), *(self._row(o, notes) for o in ordered)]
        made = table(rows, f"{len(self.outcomes)} combinations", numbers=range(4, len(rows[0]) - 1))
        return "\n".join([made, *(f"{n}: {note}" for n, note in enumerate(notes, 1))])

    @property
    def _form(self) -> str:
        return ".3g" if self.score_name == ERROR else ".4f"

    def _header(self) -> list[str]:
        shares = ["of original"] if self.score_name != ERROR else []
        times = ["ms", "of original"] if self.whole_ms else []
        names = "target", "strategy", "importance", "recovery", self.score_name
        return [*names, *shares, "MACs", "parameters", *times, ""]

    def _first_row(self) -> list[str]:
        whole = self.original
        shares = [""] if self.score_name != ERROR else []
        times = [f"{self.whole_ms:.1f}", ""] if self.whole_ms else []
        costs = f"{whole.macs:,}", f"{whole.params:,}"
        score = _score(whole.score, self._form)
        return ["original", "", "", "", score, *shares, *costs, *times, ""]

    def _row(self, outcome: Outcome, notes: Sequence[str]) -> list[str]:
        cut, found, whole = outcome.cut, outcome.found, self.original
        names = [cut.target, cut.strategy, cut.importance, cut.recover]
        numbers = [f"{notes.index(outcome.note) + 1})"] if outcome.note else []
        if found is None:
            return [*names, *["-"] * (len(self._header()) - 5), " ".join(["no such cut", *numbers])]
        cells = [_score(found.score, self._form)]
        if self.score_name != ERROR:
            cells.append(_percent(self.score_share(found)))
        cells += [_percent(found.macs / whole.macs), _percent(found.params / whole.params)]
        if self.whole_ms:
            ms = self.ms(found)
            cells += ["-" if ms is None else f"{ms:.1f}", _percent(found.time_share)]
        best = ["best"] if self.best.get(cut.target) is outcome else []
        return [*names, *cells, " ".join([*best, *numbers])]

    def score_share(self, found: Measured) -> float | None:
        """Of the original's score; None where that says nothing."""
        whole = self.original.score
        if self.score_name == ERROR or not whole or found.score is None:
            return None
        return found.score / whole

    def to_csv(self) -> str:
        """A row for the original and for every cut; shares are of the original."""
        names = [field.name for field in fields(Cut)]
        shares = ["score_share", *(f"{name}_share" for name in COUNTED), "ms_share"]
        measured = [field.name for field in fields(Measured)]
        text = io.StringIO()
        writer = csv.DictWriter(
            text, [*names, *measured, *shares, "best", "note"], lineterminator="\n"
        )
        writer.writeheader()
        whole = Outcome(ORIGINAL, "", self.original)
        for outcome in (whole, *self.outcomes):
            cut = outcome.cut
            best = "best" if self.best.get(cut.target) is outcome else ""
            row = {**asdict(cut), **_plain(outcome.found), **self._shares(outcome.found)}
            writer.writerow({**row, "best": best, "note": outcome.note})
        return text.getvalue()

    def _shares(self, found: Measured | None) -> dict[str, float | None]:
        if found is None:
            return {}
        shares = {
            f"{name}_share": getattr(found, name) / max(getattr(self.original, name), 1)
            for name in COUNTED
        }
        others = {"score_share": self.score_share(found), "ms_share": found.time_share}
        return {**shares, **others}


def load(path: Path) -> dict[str, Outcome]:
    """Outcomes by their keys, none where there is no file; raises DarknetError for another file."""
    if not path.exists():
        return {}
    try:
        data = json.loads(read_bytes(path, "comparison"))
        if data["format"] != FORMAT:
            raise ValueError(data["format"])
        outcomes = [Outcome.from_json(part) for part in (*data["cuts"], *data["others"])]
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise DarknetError(f"{path}: not a comparison of cuts: move it away") from error
    return {outcome.key: outcome for outcome in outcomes}


def dump(known: Mapping[str, Outcome], wanted: Collection[str], best: Collection[str] = ()) -> str:
    """Outcomes as JSON: those whose keys are wanted, and others that may be asked for again."""
    cuts = [{**known[key].to_json(), "best": key in best} for key in wanted if key in known]
    others = [outcome.to_json() for key, outcome in known.items() if key not in wanted]
    return json.dumps({"format": FORMAT, "cuts": cuts, "others": others}, indent=2) + "\n"


def _plain(found: Measured | None) -> dict[str, object]:
    return asdict(found) if found else {}


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("expected a text")
    return value


def _number(value: object) -> float | None:
    if value is not None and type(value) not in (int, float):
        raise TypeError("expected a number")
    return value  # type: ignore[return-value]


def _score(score: float | None, form: str) -> str:
    return "-" if score is None else f"{score:{form}}"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"
