"""Checking claims: tables, the file of verdicts, commands, and the runs that claims need."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import pytest

from bench.__main__ import main
from bench.interventions.records import read_summary
from bench.registry import plugin, plugins
from bench.runs.results import Results
from bench.verdicts import evidence
from bench.verdicts.check import Verdicts, check, effect_rows, lines, rows, write_verdicts
from bench.verdicts.edits import edited
from bench.verdicts.evidence import configs
from tests.synthetic_run import made_run

ALL = {name: plugin("claim", name) for name in plugins("claim")}


def test_a_claim_is_tested_on_every_run_that_has_what_it_needs() -> None:
    runs = [made_run(), made_run(model="unet_noise_1"), made_run(tasks=("shadow",))]
    name = "settled_by_step_5"
    checked = check({name: ALL[name]}, runs)
    assert [entry.models for entry in checked] == ["tiny", "unet_noise_1"]
    assert len(check({name: ALL[name]}, runs[2:])) == 1


def test_the_rate_is_controlled_over_all_effects_of_a_command() -> None:
    run = made_run()
    names = ("settled_by_step_5", "decoder_is_weak_early")
    together = check({name: ALL[name] for name in names}, [run])
    count = sum(len(entry.effects) for entry in together)
    assert f"{count} effects tested together at a false discovery rate of 5 %" in "\n".join(
        lines(together, False, "simple")
    )
    (alone,) = check({names[0]: ALL[names[0]]}, [run])
    assert [effect.p for effect in alone.effects] == [e.p for e in together[0].effects]


def test_the_deciding_effect_is_the_one_that_refutes() -> None:
    worse = made_run(lambda task, cell: 0.9 if cell.network == "vae" else 0.8)
    (checked,) = check({"x": ALL["decoder_is_weak_early"]}, [worse])
    assert checked.verdict == "fails"
    assert checked.weakest.verdict == "fails"
    (row,) = rows(checked for checked in [checked])
    assert row["deciding effect"] == str(checked.weakest.value)
    assert len(list(effect_rows([checked]))) == len(checked.effects)


def test_the_file_holds_every_effect(tmp_path: Path) -> None:
    checked = check(ALL, [made_run()])
    write_verdicts(checked, tmp_path / "new" / "v.json")
    stored = Verdicts.model_validate_json((tmp_path / "new" / "v.json").read_bytes())
    assert [entry.verdict for entry in stored.verdicts] == [entry.verdict for entry in checked]
    for entry, of in zip(stored.verdicts, checked, strict=True):
        assert [effect.value[0] for effect in entry.effects] == [e.value.mean for e in of.effects]
        assert bool(entry.lacks) is not bool(entry.effects)


def test_the_fewest_runs_serve_all_claims() -> None:
    generated, rendered = configs(list(ALL.values()), "tiny", {"threads": 1})
    assert set(generated.baselines) == {"decoded", "own", "vae", "convolution", "text"}
    assert generated.tasks == ("saliency", "depth", "coordinates")
    assert (generated.random_networks, generated.threads, generated.limit) == (3, 1, 310)
    assert (rendered.source, rendered.tasks) == ("rendered", ("colour", "shape"))
    (one,) = configs([ALL["settled_by_step_5"]], "tiny", {"limit": 12})
    assert (one.baselines, one.random_networks, one.limit) == ((), 1, 12)


def test_listing_names_every_claim(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["claim", "list"]) == 0
    said = capsys.readouterr().out
    assert all(name.replace("_", "-") in said for name in ALL)
    assert main(["claim", "list", "position-is-linear"]) == 0
    assert "explains half of the variance" in capsys.readouterr().out


def test_checking_a_run_that_lacks_the_steps_is_undecided(
    small_run: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "v.json"
    assert main(["claim", "check", str(small_run.path), "--effects", "--json", str(file)]) == 0
    assert "needs a run with --sampler-steps 15" in capsys.readouterr().out
    assert {entry["verdict"] for entry in json.loads(file.read_text())["verdicts"]} == {"undecided"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["run"], "name claims to run, or give --all"),
        (["run", "settled-by-step-6"], "did you mean settled_by_step_5?"),
        (["run", "--all", "--items", "1"], "--items must be at least 2"),
        (["check", "/nowhere"], "/nowhere is no run folder"),
        (["list", "nothing"], "there is no claim 'nothing'"),
        (["run", "settled-by-step-5", "--model", "tinny"], "did you mean tiny?"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_sentence(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["claim", *arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert sentence in line


@pytest.mark.parametrize("damage", ["item,method\n1,pattern\n", ""])
def test_damaged_trials_are_one_sentence(
    damage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from bench.errors import UserError
    from tests.bench.claims.test_claims import write_experiment

    write_experiment(tmp_path, {"null": 0.2, "edit": 0.7, "random": 0.3})
    (tmp_path / "interventions" / "saliency" / "trials.csv").write_text(damage, encoding="utf-8")
    with pytest.raises(UserError, match=r"trials\.csv is damaged"):
        edited(made_run(path=tmp_path), "saliency")


@pytest.mark.slow
def test_the_runs_that_claims_need_are_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence, "EDIT_METHODS", ("pattern",))
    # Of 40 items, every fold has three or more, so that there are two permutations of their labels.
    arguments = ["--limit", "40", "--items", "2", "--shifts", "1"]
    assert main(["claim", "run", "--all", "--threads", "1", *arguments]) == 0
    said = capsys.readouterr().out
    undecided = [line for line in said.splitlines() if " needs " in line]
    assert [line.split()[0] for line in undecided] == [
        "middle-layers-hold-3d",
        "transformers-are-less-local",
    ]
    (run,) = [path for path in (tmp_path / "runs").iterdir() if read_summary(path, "saliency")]
    assert main(["claim", "check", str(run), "--claims", "edits-move-the-object"]) == 0
    assert "needs" not in capsys.readouterr().out


def test_a_run_that_is_given_twice_counts_once(
    small_run: Results, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Else every effect would be tested twice, and the false discovery rate be another."""
    copy = copytree(small_run.path, tmp_path / "copy")
    assert main(["claim", "check", str(small_run.path)]) == 0
    once = capsys.readouterr().out
    assert main(["claim", "check", str(small_run.path), str(small_run.path), str(copy)]) == 0
    twice = capsys.readouterr().out.splitlines(keepends=True)
    same = f" is the same run as {small_run.path}, and is counted once\n"
    assert twice[:2] == [f"{small_run.path}{same}", f"{copy}{same}"]
    assert "".join(twice[2:]) == once
