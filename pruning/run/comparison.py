"""The outcomes of cuts of one network, as data and as a table."""

from __future__ import annotations

import csv
import io
import math
import statistics
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from pruning.measure.costs import Cost
from pruning.measure.head_error import ERROR
from pruning.spec import COUNTED
from yolo.records import read_record, record
from yolo.tables import table

KIND, SCHEMA = "comparison of cuts", 2


@dataclass(frozen=True)
class Combination:
    """One cut of a comparison: names of registry.py, and targets as spec.Targets reads them."""

    strategy: str
    importance: str
    target: str
    recover: str

    @property
    def names(self) -> tuple[str, ...]:
        return self.strategy, self.importance, self.target, self.recover

    def __str__(self) -> str:
        return ", ".join(self.names)


BLANK = dict.fromkeys(field.name for field in fields(Combination))  # the original's names


@dataclass(frozen=True)
class ScoredCost:
    """A network's cost and score.

    `score` is None where it isn't a finite number. `ms` and `original_ms` are median milliseconds
    of this network and of the original, which were timed alternately.
    """

    cost: Cost
    score_name: str
    score: float | None
    ms: float | None = None
    original_ms: float | None = None

    @property
    def time_share(self) -> float | None:
        """Of the original's milliseconds at that time."""
        return self.ms / self.original_ms if self.ms and self.original_ms else None

    def to_json(self) -> dict[str, object]:
        scores = {name: value for name, value in vars(self).items() if name != "cost"}
        return {**asdict(self.cost), **scores}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ScoredCost:
        """Raises an error of dict or of a conversion for anything else."""
        cost = Cost(**{name: int(data[name]) for name in COUNTED})
        numbers = (_number(data[name]) for name in ("score", "ms", "original_ms"))
        return cls(cost, _text(data["score_name"]), *numbers)


@dataclass(frozen=True)
class Outcome:
    """The outcome of a combination, or the original's (None).

    `note` gives the reason why nothing was found, or a remark. `key` stands for all that it
    depends on.
    """

    combination: Combination | None
    key: str
    found: ScoredCost | None
    note: str = ""

    @property
    def target(self) -> str:
        """The targets of a combination, as they were written; none of the original."""
        return self.combination.target if self.combination else ""

    @property
    def lacks_time(self) -> bool:
        return self.combination is not None and self.found is not None and self.found.ms is None

    @property
    def names(self) -> dict[str, str | None]:
        return asdict(self.combination) if self.combination else dict(BLANK)

    def to_json(self) -> dict[str, object]:
        numbers = self.found.to_json() if self.found else {}
        return {"key": self.key, **self.names, **numbers, "note": self.note}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """Raises an error of dict or of a conversion for anything else."""
        combination = None
        if data["strategy"] is not None:
            combination = Combination(*(_text(data[name]) for name in BLANK))
        elif "score" not in data:
            raise ValueError("the original has a score")
        scored = ScoredCost.from_json(data) if "score" in data else None
        return cls(combination, _text(data["key"]), scored, _text(data["note"]))


@dataclass(frozen=True)
class Comparison:
    """The original and its cuts, as far as they are made."""

    original: ScoredCost
    outcomes: Sequence[Outcome]

    @classmethod
    def of(
        cls, keys: Mapping[Combination | None, str], saved: Mapping[str, Outcome]
    ) -> Comparison | None:
        """Those that are known by their keys; None where the original isn't."""
        outcomes = [saved[key] for name, key in keys.items() if name and key in saved]
        original = saved.get(keys[None])
        return cls(original.found, outcomes) if original and original.found else None

    @property
    def score_name(self) -> str:
        return self.original.score_name

    @cached_property
    def pareto(self) -> Sequence[Outcome]:
        """The cuts that none beats in both score and MACs, by MACs; of equals the first."""
        sign = 1 if self.score_name == ERROR else -1
        scored = [
            (outcome.found.cost.macs, sign * outcome.found.score, number)
            for number, outcome in enumerate(self.outcomes)
            if outcome.found and outcome.found.score is not None
        ]
        found, least = [], math.inf
        for _, score, number in sorted(scored):
            if score < least:
                found.append(self.outcomes[number])
                least = score
        return found

    @cached_property
    def original_ms(self) -> float | None:
        """Median milliseconds of the original, over all times that cuts were compared with."""
        times = [o.found.original_ms for o in self.outcomes if o.found and o.found.original_ms]
        return statistics.median(times) if times else None

    def ms(self, scored: ScoredCost) -> float | None:
        """Milliseconds as they would be at a time when the original takes `original_ms`.

        The machine may be faster while one cut is timed than while another is.
        """
        share, original = scored.time_share, self.original_ms
        return share * original if share and original else None

    @cached_property
    def best(self) -> Mapping[str, Outcome]:
        """For every target the outcome with the best score; of equals that with fewer MACs."""
        sign = 1 if self.score_name == ERROR else -1
        ranks: dict[str, list[tuple[float, int, int]]] = {}
        for number, outcome in enumerate(self.outcomes):
            scored = outcome.found
            if scored and scored.score is not None:
                rank = sign * scored.score, scored.cost.macs, number
                ranks.setdefault(outcome.target, []).append(rank)
        return {target: self.outcomes[min(ranked)[-1]] for target, ranked in ranks.items()}

    def lines(self) -> dict[tuple[str, str, str], list[ScoredCost]]:
        """The outcomes of every strategy, importance and recovery, by MACs."""
        lines: dict[tuple[str, str, str], list[ScoredCost]] = {}
        for outcome in self.outcomes:
            name = outcome.combination
            if name and outcome.found and outcome.found.score is not None:
                key = name.strategy, name.importance, name.recover
                lines.setdefault(key, []).append(outcome.found)
        return {key: sorted(line, key=lambda m: m.cost.macs) for key, line in lines.items()}

    def tables(self) -> str:
        """The comparison as a person reads it, target by target; notes stand below by number."""
        targets = list(dict.fromkeys(o.target for o in self.outcomes))
        ordered = sorted(self.outcomes, key=lambda o: targets.index(o.target))
        notes = list(dict.fromkeys(o.note for o in ordered if o.note))
        rows = [self._header(), self._first_row(), *(self._row(o, notes) for o in ordered)]
        body = table(rows, f"{len(self.outcomes)} combinations", numbers=range(4, len(rows[0]) - 1))
        return "\n".join([body, *(f"{n}: {note}" for n, note in enumerate(notes, 1))])

    @property
    def _form(self) -> str:
        return ".3g" if self.score_name == ERROR else ".4f"

    def _header(self) -> list[str]:
        shares = ["of original"] if self.score_name != ERROR else []
        times = ["ms", "of original"] if self.original_ms else []
        names = "target", "strategy", "importance", "recovery", self.score_name
        return [*names, *shares, "MACs", "parameters", *times, ""]

    def _first_row(self) -> list[str]:
        original = self.original
        shares = [""] if self.score_name != ERROR else []
        times = [f"{self.original_ms:.1f}", ""] if self.original_ms else []
        costs = f"{original.cost.macs:,}", f"{original.cost.parameters:,}"
        score = _score(original.score, self._form)
        return ["original", "", "", "", score, *shares, *costs, *times, ""]

    def _row(self, outcome: Outcome, notes: Sequence[str]) -> list[str]:
        scored, original = outcome.found, self.original
        fields = outcome.names
        names = [fields[name] or "" for name in ("target", "strategy", "importance", "recover")]
        numbers = [f"{notes.index(outcome.note) + 1})"] if outcome.note else []
        if scored is None:
            return [*names, *["-"] * (len(self._header()) - 5), " ".join(["no such cut", *numbers])]
        cells = [_score(scored.score, self._form)]
        if self.score_name != ERROR:
            cells.append(_percent(self.score_share(scored)))
        cells += [
            _percent(scored.cost.macs / original.cost.macs),
            _percent(scored.cost.parameters / original.cost.parameters),
        ]
        if self.original_ms:
            ms = self.ms(scored)
            cells += ["-" if ms is None else f"{ms:.1f}", _percent(scored.time_share)]
        best = ["best"] if self.best.get(outcome.target) is outcome else []
        return [*names, *cells, " ".join([*best, *numbers])]

    def score_share(self, scored: ScoredCost) -> float | None:
        """Of the original's score; None where that says nothing."""
        original = self.original.score
        if self.score_name == ERROR or not original or scored.score is None:
            return None
        return scored.score / original

    def to_csv(self) -> str:
        """A row for the original and for every cut; shares are of the original."""
        shares = ["score_share", *(f"{name}_share" for name in COUNTED), "ms_share"]
        measured = [*COUNTED, "score_name", "score", "ms", "original_ms"]
        text = io.StringIO()
        writer = csv.DictWriter(
            text, [*BLANK, *measured, *shares, "best", "note"], lineterminator="\n"
        )
        writer.writeheader()
        original = Outcome(None, "", self.original)
        for outcome in (original, *self.outcomes):
            best = "best" if self.best.get(outcome.target) is outcome else ""
            numbers = outcome.found.to_json() if outcome.found else {}
            row = {**outcome.names, **numbers, **self._shares(outcome.found)}
            writer.writerow({**row, "best": best, "note": outcome.note})
        return text.getvalue()

    def _shares(self, scored: ScoredCost | None) -> dict[str, float | None]:
        if scored is None:
            return {}
        shares = {
            f"{name}_share": getattr(scored.cost, name) / max(getattr(self.original.cost, name), 1)
            for name in COUNTED
        }
        measured = {"score_share": self.score_share(scored), "ms_share": scored.time_share}
        return {**shares, **measured}


def load(path: Path) -> dict[str, Outcome]:
    """Outcomes by their keys, none where there is no file; raises DarknetError for another file."""
    if not path.exists():
        return {}
    outcomes = read_record(path, KIND, SCHEMA, _parsed)
    return {outcome.key: outcome for outcome in outcomes}


def last(path: Path) -> tuple[str, Comparison]:
    """The comparison that a file was written for, and the original's key.

    Raises DarknetError for another file.
    """
    return read_record(path, KIND, SCHEMA, _last)


def _last(data: Mapping[str, Any]) -> tuple[str, Comparison]:
    outcomes = [Outcome.from_json(part) for part in data["cuts"]]
    (original,) = (outcome for outcome in outcomes if outcome.combination is None)
    assert original.found  # Outcome.from_json sees to it
    return original.key, Comparison(original.found, [o for o in outcomes if o.combination])


def _parsed(data: Mapping[str, Any]) -> list[Outcome]:
    return [Outcome.from_json(part) for part in (*data["cuts"], *data["others"])]


def dump(outcomes: Mapping[str, Outcome], keys: Collection[str], best: Collection[str] = ()) -> str:
    """Outcomes as JSON: those whose keys are wanted, and others that may be asked for again."""
    cuts = [{**outcomes[key].to_json(), "best": key in best} for key in keys if key in outcomes]
    others = [outcome.to_json() for key, outcome in outcomes.items() if key not in keys]
    return record(KIND, SCHEMA, {"cuts": cuts, "others": others})


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
