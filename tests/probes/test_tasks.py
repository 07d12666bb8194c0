"""Every task against exact labels of rendered scenes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from bench.registry import plugin, plugins
from datasets.errors import DatasetError
from datasets.labels import DisparityScale, Labels, exact_labels
from datasets.raycast import Rendered, render
from datasets.scenes import COLORS, FLOORS, LIGHTS, SHAPES, WALLS, Scene, draw_scene
from probes.task import Task

NAMES = sorted(plugins("task"))


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [draw_scene(5, index) for index in range(12)]


@pytest.fixture(scope="module")
def rendered(scenes: list[Scene]) -> Rendered:
    return render(scenes, 32)


@pytest.fixture(scope="module")
def exact(rendered: Rendered) -> Labels:
    return exact_labels(rendered, DisparityScale(0.2, 0.1))


@pytest.fixture
def bare(exact: Labels) -> Labels:
    """The labels that every labeler provides."""
    return Labels(exact.disparity, exact.saliency)


@pytest.mark.parametrize("name", NAMES)
def test_exact_labels_serve_every_task(name: str, exact: Labels) -> None:
    task: Task = plugin("task", name)
    target = task.target(exact)
    assert len(target) == 12
    assert target.shape[2:] == ((1, 1) if task.per_image else (32, 32))
    assert torch.isfinite(target).all()
    if task.classes:
        assert target.shape[1] == len(task.classes)
        assert (target.sum(1) == 1).all()
    if task.thresholded:
        assert set(target.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_a_task_serves_every_labeler_or_names_the_missing_label_in_one_sentence(
    name: str, bare: Labels, exact: Labels
) -> None:
    task: Task = plugin("task", name)
    try:
        target = task.target(bare)
    except DatasetError as error:
        (line,) = str(error).splitlines()
        assert "use --source rendered" in line
        assert ". " not in line
    else:
        assert torch.equal(target, task.target(exact))


@pytest.mark.parametrize("name", ["saliency", "depth", "coordinates"])
def test_the_default_tasks_serve_every_labeler(name: str, bare: Labels) -> None:
    assert torch.isfinite(plugin("task", name).target(bare)).all()


@pytest.mark.parametrize(
    ("name", "attribute", "words"),
    [
        ("colour", "color", tuple(COLORS)),
        ("shape", "shape", SHAPES),
        ("floor", "floor", tuple(FLOORS)),
        ("wall", "wall", tuple(WALLS)),
    ],
)
def test_classes_are_the_words_of_the_scene(
    name: str, attribute: str, words: tuple[str, ...], exact: Labels, scenes: list[Scene]
) -> None:
    chosen = plugin("task", name).target(exact)[:, :, 0, 0].argmax(1).tolist()
    assert [words[at] for at in chosen] == [
        getattr(scene.attributes, attribute) for scene in scenes
    ]


def test_light_is_the_side_that_the_light_comes_from(exact: Labels, scenes: list[Scene]) -> None:
    chosen = plugin("task", "light").target(exact)[:, :, 0, 0].argmax(1)
    assert [LIGHTS[at] for at in chosen.tolist()] == [
        "left" if scene.to_light[0] < 0 else "right" for scene in scenes
    ]


def test_shadow_is_where_no_light_falls_in_the_renderer(exact: Labels, rendered: Rendered) -> None:
    target = plugin("task", "shadow").target(exact)[:, 0].bool()
    assert torch.equal(target, rendered.shadow)
    brightness = rendered.rgb.mean(1)
    assert brightness[target].mean() < 0.6 * brightness[~target].mean()


def test_metric_depth_is_standardised_over_rendered_scenes(
    rendered: Rendered, exact: Labels
) -> None:
    from datasets.render import scenes_of
    from probes.tasks.metric_depth import MEAN, STD, TASK

    target = TASK.target(exact)[:, 0]
    np.testing.assert_allclose(torch.exp(target * STD + MEAN), rendered.depth_m, rtol=1e-5)
    other = TASK.target(exact_labels(render(scenes_of("train", 512), 16), DisparityScale(0.2, 0.1)))
    assert abs(float(other.mean())) < 0.1
    assert abs(float(other.std()) - 1) < 0.1


def test_tasks_do_not_read_the_prompt() -> None:
    from datasets.labelers.tiny import LABELER

    grey = torch.full((2, 3, 64, 64), 0.5)
    labels = LABELER.open()(grey)
    for name in ("colour", "shape", "light", "floor", "wall"):
        target = plugin("task", name).target(labels)
        assert torch.equal(target[0], target[1])


def test_coordinates_are_row_and_column_of_unit_variance_in_every_image(exact: Labels) -> None:
    target = plugin("task", "coordinates").target(exact)
    row, column = target[0]
    assert (target == target[:1]).all()
    for maps, across in ((row, column), (column.mT, row.mT)):
        assert (maps.diff(dim=0) > 0).all()
        assert (maps == maps[:, :1]).all()
        assert maps.mean() == pytest.approx(0, abs=1e-12)
        assert maps.std(correction=0) == pytest.approx(1)
        assert np.corrcoef(maps.flatten(), across.flatten())[0, 1] == pytest.approx(0, abs=1e-12)
