"""Published probes are fitted to training items once, and are the recipe's on their activations."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from bench.adam_vs_ridge import fits
from bench.adam_vs_ridge.fits import ActivationStore, grouped, permutation
from bench.runs.regenerate import generate
from bench.runs.reopen import reopened
from bench.runs.results import Results, read_results
from datasets.grid import Grid
from probes.adam import target_blocks, train
from probes.published_edit import PublishedProbe

SITES = [("up2.1", 0, 0), ("up2.1", 0, 1), ("up2.1", 1, 0)]


class Bar:
    def update(self, _: int) -> None:
        pass


def test_fits_are_the_recipes_and_survive_an_interruption(
    small_run: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = Path(shutil.copytree(small_run.path, tmp_path / "run"))
    results = read_results(path)
    study, engine = reopened(results, 1)
    calls: list[int] = []

    def interrupted(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return train(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(fits, "train", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fits.published_probes(results, study, engine, "saliency", SITES)
    calls.clear()
    probes = fits.published_probes(results, study, engine, "saliency", SITES)
    # Two of the three fits were finished before the interruption.
    assert len(calls) == 1

    store = ActivationStore({("up2.1", 0)}, {"saliency": study.tasks["saliency"]})
    generate(study, engine, study.train, [0], store, Bar())  # type: ignore[arg-type]
    activations, target = (
        torch.cat(store.activations["up2.1", 0]),
        torch.cat(store.targets["saliency"]),
    )
    assert len(activations) == len(results.record.train_items)
    grid = Grid.of(activations.shape[1], *target.shape[1:])
    for draw in (0, 1):
        labels = target[permutation(len(target), 1)] if draw else target
        expected = train(activations, target_blocks(labels, grid, True), True).weights[-1]
        probe = probes.get("up2.1", 0, draw)
        assert isinstance(probe, PublishedProbe)
        torch.testing.assert_close(probe.weights, expected)
    assert not torch.equal(probes.get("up2.1", 0).weights, probes.get("up2.1", 0, 1).weights)


def test_a_permutation_gives_no_image_its_own_label() -> None:
    for images in (2, 3, 50):
        order = permutation(images, 1)
        assert sorted(order.tolist()) == list(range(images))
        assert (order != torch.arange(images)).all()
        assert torch.equal(order, permutation(images, 1))
    assert not torch.equal(permutation(50, 1), permutation(50, 2))


def test_sites_are_grouped_by_memory_and_none_is_left_out() -> None:
    places = [(layer, step) for step in (0, 1) for layer in ("a", "b", "c")]
    sizes = {"a": 4, "b": 5, "c": 20}
    groups = list(grouped(places, lambda place: sizes[place[0]], 10))
    assert [place for group in groups for place in group] == places
    assert all(len(group) == 1 or sum(sizes[layer] for layer, _ in group) <= 10 for group in groups)
