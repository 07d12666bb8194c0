"""Tasks of whole images against scikit-learn on the stacked pooled activations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import Ridge, RidgeClassifier
from sklearn.metrics import accuracy_score

from datasets.grid import WHOLE, Grid
from datasets.scenes import LIGHTS, SHAPES
from probes.accumulate import Accumulator
from probes.equal_width import projection
from probes.probe_set import ACTIVATIONS, CEILING, EQUAL_WIDTH, MEAN_MAP, PERMUTED, Cell, ProbeSet
from probes.readout import Readout
from probes.ridge import PENALTIES
from probes.solve import solve_probe_set
from probes.statistics import SufficientStatistics, sums_of_tensors
from probes.task import Task
from probes.tasks.light import TASK as LIGHT
from probes.tasks.shape import TASK as SHAPE

TASKS: dict[str, Task] = {"shape": SHAPE, "light": LIGHT}
CLASSES = {"shape": len(SHAPES), "light": len(LIGHTS)}
SITE = ("trained", "coarse")


def labelled(world: SimpleNamespace, seed: int, images: int) -> object:
    """A block whose images also have a shape and a light, with signals in every token."""
    block = world.draw(seed, noise=1.0, images=images)
    rng = np.random.default_rng([3, seed])
    classes = {task: rng.integers(count, size=images) for task, count in CLASSES.items()}
    for site, steps in block.activations.items():
        for step in steps:
            for number, task in enumerate(CLASSES):
                signals = np.random.default_rng([number, step.shape[-1]]).normal(
                    size=(CLASSES[task], step.shape[-1])
                )
                if site[0] == "trained":
                    step += torch.from_numpy(signals[classes[task]][:, None]).float()
    words = {task: torch.from_numpy(values) for task, values in classes.items()}
    return replace(block, labels=replace(block.labels, **words))


@dataclass(frozen=True)
class Stack:
    """Pooled activations and classes of all images."""

    x: np.ndarray
    classes: dict[str, np.ndarray]
    permuted: dict[str, list[np.ndarray]]
    fold: np.ndarray

    def targets(self, task: str, draw: int = 0) -> np.ndarray:
        chosen = self.permuted[task][draw - 1] if draw else self.classes[task]
        return np.eye(CLASSES[task])[chosen]


def stacked(blocks: list, site: tuple[str, str], at: int) -> Stack:
    def classes(task: str, block: object, order: list[int] | None = None) -> np.ndarray:
        values = getattr(block.labels, task).numpy()
        return values if order is None else values[order]

    join = np.concatenate
    return Stack(
        x=join([block.activations[site][at].double().numpy().mean(1) for block in blocks]),
        classes={task: join([classes(task, block) for block in blocks]) for task in CLASSES},
        permuted={
            task: [
                join([classes(task, block, block.permutations[draw]) for block in blocks])
                for draw in range(5)
            ]
            for task in CLASSES
        },
        fold=join([[number] * len(block.labels.disparity) for number, block in enumerate(blocks)]),
    )


def best_alpha(stack: Stack, x: np.ndarray, y: np.ndarray) -> tuple[int, float, float]:
    """(index, value, loss) of the penalty with the least mean loss over classes and folds."""
    alphas = np.array(PENALTIES) * ((x - x.mean(0)) ** 2).sum(0).mean()
    losses = []
    for fold in np.unique(stack.fold):
        train, test = stack.fold != fold, stack.fold == fold
        fits = [Ridge(alpha=alpha, solver="svd").fit(x[train], y[train]) for alpha in alphas]
        losses.append([((fitted.predict(x[test]) - y[test]) ** 2).mean() for fitted in fits])
    mean = np.mean(losses, axis=0)
    at = int(mean.argmin())
    return at, float(alphas[at]), float(mean[at])


@pytest.fixture(scope="module")
def blocks(world: SimpleNamespace) -> list:
    return [labelled(world, seed, images=7) for seed in range(70, 75)]


@pytest.fixture(scope="module")
def folds(world: SimpleNamespace, blocks: list) -> list[SufficientStatistics]:
    return [block.sums(TASKS | {"depth": world.tasks["depth"]}) for block in blocks]


@pytest.fixture(scope="module")
def probe_set(world: SimpleNamespace, folds: list[SufficientStatistics]) -> ProbeSet:
    return solve_probe_set(folds, ["light", "depth", "shape"], world.steps, {"trained"}, threads=1)


def assert_is_ridge(
    probe_set: ProbeSet, task: str, cell: Cell, stack: Stack, x: np.ndarray, y: np.ndarray
) -> None:
    at, alpha, loss = best_alpha(stack, x, y)
    ridge = Ridge(alpha=alpha, solver="svd").fit(x, y)
    solved = probe_set.probes[task][cell]
    prediction = stack.x @ solved.weights.numpy() + solved.intercept.numpy()
    np.testing.assert_allclose(prediction, ridge.predict(x), rtol=1e-6, atol=1e-8)
    assert solved.penalty == PENALTIES[at]
    assert solved.cv_loss == pytest.approx(loss, rel=1e-9)


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("at", [0, 1])
@pytest.mark.parametrize("draw", [0, 2])
def test_probes_are_ridge_on_indicators_with_one_penalty(
    world: SimpleNamespace, probe_set: ProbeSet, blocks: list, task: str, at: int, draw: int
) -> None:
    stack = stacked(blocks, SITE, at)
    cell = Cell(*SITE, world.steps[at], PERMUTED if draw else ACTIVATIONS, draw, WHOLE)
    assert_is_ridge(probe_set, task, cell, stack, stack.x, stack.targets(task, draw))


def test_probes_of_equal_width_use_fewer_directions(
    world: SimpleNamespace, probe_set: ProbeSet, blocks: list
) -> None:
    stack = stacked(blocks, SITE, 0)
    cell = Cell(*SITE, world.steps[0], EQUAL_WIDTH, 0, WHOLE)
    assert_is_ridge(
        probe_set, "shape", cell, stack, stack.x @ projection(7, 5).numpy(), stack.targets("shape")
    )


@pytest.mark.parametrize("task", CLASSES)
def test_accuracy_is_that_of_scikit_learn(
    world: SimpleNamespace, probe_set: ProbeSet, blocks: list, task: str
) -> None:
    train, block = stacked(blocks, SITE, 1), labelled(world, 90, images=24)
    test = stacked([block], SITE, 1)
    readout = Readout(probe_set, TASKS)
    block.feed(readout)
    accuracy, brier = readout.scores()[task].unbind(1)
    assert set(accuracy.unique().tolist()) <= {0.0, 1.0}
    cells = probe_set.cells(task)

    def index_of(network: str, probe: str, step: int) -> int:
        return next(
            at
            for at, cell in enumerate(cells)
            if (cell.network, cell.probe, cell.step) == (network, probe, step)
        )

    at = cells.index(Cell(*SITE, world.steps[1], ACTIVATIONS, 0, WHOLE))
    _, alpha, _ = best_alpha(train, train.x, train.targets(task))
    ridge = Ridge(alpha=alpha).fit(train.x, train.targets(task))
    expected = accuracy_score(test.classes[task], ridge.predict(test.x).argmax(1))
    assert float(accuracy[at].mean()) == expected > 1 / CLASSES[task]
    # Targets of -1 and 1 instead of 0 and 1 double the weights, which changes no class.
    classifier = RidgeClassifier(alpha=alpha).fit(train.x, train.classes[task])
    assert classifier.score(test.x, test.classes[task]) == expected
    squares = ((ridge.predict(test.x) - test.targets(task)) ** 2).sum(1)
    np.testing.assert_allclose(brier[at], squares, rtol=1e-6)
    majority = DummyClassifier(strategy="most_frequent").fit(train.x, train.classes[task])
    assert float(accuracy[index_of(MEAN_MAP, MEAN_MAP, -1)].mean()) == majority.score(
        test.x, test.classes[task]
    )
    assert (accuracy[index_of(CEILING, CEILING, -1)] == 1).all()


def test_whole_images_have_no_position(probe_set: ProbeSet) -> None:
    for task in CLASSES:
        probes = {cell.probe for cell in probe_set.cells(task)}
        assert probes == {ACTIVATIONS, PERMUTED, EQUAL_WIDTH, MEAN_MAP, CEILING}
        assert {cell.grid for cell in probe_set.cells(task)} == {WHOLE}


def test_tasks_of_images_change_no_probe_of_maps(
    world: SimpleNamespace, blocks: list, probe_set: ProbeSet
) -> None:
    depth = {"depth": world.tasks["depth"]}
    alone = solve_probe_set(
        [block.sums(depth) for block in blocks], ["depth"], world.steps, {"trained"}, threads=1
    )
    assert list(alone.probes["depth"]) == list(probe_set.probes["depth"])
    for cell, solved in alone.probes["depth"].items():
        assert torch.equal(solved.weights, probe_set.probes["depth"][cell].weights)


def test_tasks_of_images_alone_keep_no_sums_of_tokens(
    world: SimpleNamespace, blocks: list, probe_set: ProbeSet
) -> None:
    folds = [block.sums(TASKS) for block in blocks]
    assert not folds[0].moments
    alone = solve_probe_set(folds, list(TASKS), world.steps, {"trained"}, threads=2)
    for task in TASKS:
        assert alone.probes[task].keys() == probe_set.probes[task].keys()


def test_sums_from_files_give_the_same_probes(
    world: SimpleNamespace, folds: list[SufficientStatistics], probe_set: ProbeSet
) -> None:
    folds = [sums_of_tensors(dict(sorted(sums.tensors().items()))) for sums in folds]
    again = solve_probe_set(folds, ["light", "depth", "shape"], world.steps, {"trained"}, threads=1)
    for task in probe_set.probes:
        for cell, solved in probe_set.probes[task].items():
            torch.testing.assert_close(
                again.probes[task][cell].weights, solved.weights, rtol=1e-9, atol=1e-12
            )


def test_without_tasks_of_maps_only_means_are_kept_with_the_same_sums(
    world: SimpleNamespace, blocks: list
) -> None:
    alone = Accumulator(TASKS, blocks[0].permutations)
    both = Accumulator(TASKS | {"depth": world.tasks["depth"]}, blocks[0].permutations)
    for accumulator in (alone, both):
        for site, side in world.sides.items():
            for at, activation in enumerate(blocks[0].activations[site]):
                accumulator.update(world.steps[at], *site, activation, Grid(side, side))
    for site in world.sides:
        assert {tuple(kept.shape) for kept in alone._activations[site]} == {
            (7, world.channels[site])
        }
    for accumulator in (alone, both):
        accumulator.finish(blocks[0].labels)
    for site in world.sides:
        one, other = (accumulator.sums().pooled[site] for accumulator in (alone, both))
        assert torch.equal(one.mean, other.mean)
        assert torch.equal(one.scatter, other.scatter)
    assert alone.sums().shapes == both.sums().shapes
    assert not alone.sums().moments
