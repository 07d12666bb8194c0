"""Check claims on finished runs, all effects together at one false discovery rate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field
from tabulate import tabulate

from bench.errors import UserError
from bench.options.validation import Record, finite
from bench.runs.results import Results
from bench.verdicts.claim import Claim, LacksError
from bench.verdicts.effect import Effect, Verdict, verdict_of, with_rates
from datasets.atomic_write import atomic_write
from probes.bootstrap import Score
from probes.multiple_testing import RATE

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Checked:
    """A claim with its verdict on one run, or on several."""

    name: str
    claim: Claim
    runs: tuple[Results, ...]
    verdict: Verdict
    effects: tuple[Effect, ...]
    lacks: str
    """What the runs lack; empty if the claim was tested."""

    @property
    def models(self) -> str:
        """The models of the runs."""
        return ", ".join(dict.fromkeys(results.config.model for results in self.runs))

    @property
    def weakest(self) -> Effect | None:
        """The effect that decides: the one furthest below its least value, or least above it."""
        decided = [effect for effect in self.effects if effect.verdict == self.verdict]
        chosen = decided or self.effects
        return min(chosen, key=lambda e: e.value.mean - e.least) if chosen else None


def check(claims: Mapping[str, Claim], runs: Sequence[Results]) -> list[Checked]:
    """Return the verdict on every claim, by name, on every run that it can be tested on.

    A claim about several models is tested once, on all runs; another one on each run that has what
    it needs, or once without effects if none has.
    """
    tested: list[tuple[str, Claim, tuple[Results, ...], list[Effect], str]] = []
    for name, claim in claims.items():
        groups = [tuple(runs)] if claim.kind == "runs" else [(results,) for results in runs]
        attempts = [(group, *_effects(claim, group)) for group in groups]
        useful = [attempt for attempt in attempts if not attempt[2]] or attempts[:1]
        tested += [(name, claim, *attempt) for attempt in useful]
    families = with_rates([effects for _, _, _, effects, _ in tested])
    return [
        Checked(name, claim, group, verdict_of(effects), tuple(effects), lacks)
        for (name, claim, group, _, lacks), effects in zip(tested, families, strict=True)
    ]


def _effects(claim: Claim, runs: tuple[Results, ...]) -> tuple[list[Effect], str]:
    """Return the effects of a claim, or what the runs lack."""
    try:
        return list(claim.test(runs)), ""
    except LacksError as lacks:
        return [], str(lacks)


def rows(checked: Sequence[Checked]) -> Iterator[dict[str, str]]:
    """Yield the table: one row per verdict."""
    for entry in checked:
        supported = sum(effect.verdict == "holds" for effect in entry.effects)
        weakest = entry.weakest
        yield {
            "claim": entry.name.replace("_", "-"),
            "source": entry.claim.source,
            "model": entry.models if not entry.lacks else "",
            "verdict": entry.verdict,
            "effects": f"{supported} of {len(entry.effects)}" if entry.effects else "",
            "deciding effect": str(weakest.value) if weakest else f"needs {entry.lacks}",
            "q": _number(weakest.q) if weakest else "",
        }


def effect_rows(checked: Sequence[Checked]) -> Iterator[dict[str, str]]:
    """Yield one row per effect."""
    for entry in checked:
        for effect in entry.effects:
            yield {
                "claim": entry.name.replace("_", "-"),
                "effect": effect.what,
                "value": str(effect.value),
                "more than": f"{effect.least:g}",
                "q": _number(effect.q),
                "verdict": effect.verdict,
            }


def _number(q: float) -> str:
    return "-" if q != q else f"{q:.4f}"


def lines(checked: Sequence[Checked], with_effects: bool, form: str) -> list[str]:
    """Return the table of verdicts, on demand that of all effects, and how to read them."""
    said = [tabulate(list(rows(checked)), headers="keys", tablefmt=form, disable_numparse=True)]
    if with_effects:
        table = list(effect_rows(checked))
        said += ["", tabulate(table, headers="keys", tablefmt=form, disable_numparse=True)]
    count = sum(effect.p == effect.p for entry in checked for effect in entry.effects)
    said += [
        "",
        f"{count} effects tested together at a false discovery rate of {100 * RATE:.0f} % "
        "(Benjamini-Hochberg); intervals are 95 %, over test images",
    ]
    return said


class EffectRecord(Record):
    """An effect in the file of ``--json``."""

    what: str
    value: tuple[float | None, ...]
    """Mean and the ends of its 95 % interval."""
    least: float
    q: float | None
    verdict: Verdict


class VerdictRecord(Record):
    """A verdict in the file of ``--json``."""

    claim: str
    source: str
    sentence: str
    models: tuple[str, ...]
    runs: tuple[str, ...]
    """Fingerprints."""
    verdict: Verdict
    lacks: str
    effects: tuple[EffectRecord, ...]


class Verdicts(Record):
    """The file of ``--json``."""

    version: int = Field(alias="schema")
    rate: float
    verdicts: tuple[VerdictRecord, ...]


def write_verdicts(checked: Sequence[Checked], path: Path) -> None:
    """Write all verdicts and effects. Raises UserError."""
    record = Verdicts(
        schema=SCHEMA,
        rate=RATE,
        verdicts=tuple(
            VerdictRecord(
                claim=entry.name,
                source=entry.claim.source,
                sentence=entry.claim.sentence,
                models=tuple(results.config.model for results in entry.runs),
                runs=tuple(results.fingerprint for results in entry.runs),
                verdict=entry.verdict,
                lacks=entry.lacks,
                effects=tuple(
                    EffectRecord(
                        what=effect.what,
                        value=tuple(map(finite, _ends(effect.value))),
                        least=effect.least,
                        q=finite(effect.q),
                        verdict=effect.verdict,
                    )
                    for effect in entry.effects
                ),
            )
            for entry in checked
        ),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as partial:
            text = record.model_dump_json(indent=1, by_alias=True)
            partial.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror}); choose another file") from error


def _ends(value: Score) -> tuple[float, float, float]:
    return value.mean, value.low, value.high
