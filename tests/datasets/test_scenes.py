from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest
import torch

from datasets.items import Item
from datasets.position_share import share_explained
from datasets.raycast import Rendered
from datasets.render import SETS, scenes_of
from datasets.scenes import COLORS, FLOORS, LIGHTS, SHAPES, WALLS, Attributes, Scene, draw_scene
from datasets.sets.scenes617 import DATASET, SEED

GRAMMAR = re.compile(
    rf"(?P<article>an?) (?P<color>{'|'.join(COLORS)}) (?P<shape>{'|'.join(SHAPES)}) "
    rf"on a (?P<floor>{'|'.join(FLOORS)}) floor with a (?P<wall>{'|'.join(WALLS)}) wall "
    rf"and light from the (?P<light>{'|'.join(LIGHTS)})"
)


def parsed(prompt: str) -> Attributes:
    match = GRAMMAR.fullmatch(prompt)
    assert match, prompt
    words = match.groupdict()
    assert (words.pop("article") == "an") == (words["color"][0] in "aeiou")
    return Attributes(**words)


def test_a_scene_depends_on_seed_and_index_alone() -> None:
    pairs = [(seed, index) for seed in (1, 2) for index in (0, 1, 7)]
    first = {pair: draw_scene(*pair) for pair in pairs}
    np.random.seed(5)  # noqa: NPY002
    random.seed(5)
    torch.manual_seed(5)
    for pair in reversed(pairs):
        draw_scene(9, 9)
        assert draw_scene(*pair) == first[pair]
    assert len({str(scene) for scene in first.values()}) == len(pairs)


def test_drawing_leaves_the_global_generators_alone() -> None:
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    draw_scene(1, 0)
    after = np.random.random(), float(torch.rand(()))  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)
    assert after == (np.random.random(), float(torch.rand(())))  # noqa: NPY002


def test_a_shorter_set_is_the_start_of_a_longer_one() -> None:
    assert scenes_of("train", 5) == scenes_of("train", 9)[:5]


def test_prompts_say_what_the_scene_is(held_out_scenes: list[Scene]) -> None:
    for scene in held_out_scenes:
        words = parsed(scene.attributes.prompt)
        assert words == scene.attributes
        assert scene.solids[0].shape == words.shape
        assert np.abs(np.subtract(scene.solids[0].color, COLORS[words.color])).max() < 0.12
        assert (scene.to_light[0] < 0) == (words.light == "left")


def test_every_word_is_drawn_about_equally_often() -> None:
    drawn = [draw_scene(2, index).attributes for index in range(400)]
    vocabularies = {
        "color": COLORS,
        "shape": SHAPES,
        "floor": FLOORS,
        "wall": WALLS,
        "light": LIGHTS,
    }
    for name, words in vocabularies.items():
        p = 1 / len(words)
        for word in words:
            count = sum(getattr(attributes, name) == word for attributes in drawn)
            assert abs(count - 400 * p) < 4.5 * math.sqrt(400 * p * (1 - p)), word


def test_scenes_are_physical(held_out_scenes: list[Scene]) -> None:
    for scene in held_out_scenes:
        assert np.linalg.norm(scene.to_light) == pytest.approx(1)
        assert scene.to_light[1] > 0 > scene.to_light[2]
        for solid in scene.solids:
            assert 0 < solid.z_m < scene.wall_distance_m
            assert solid.radius_m > 0 < solid.height_m
            assert solid.z_m - solid.radius_m * math.sqrt(2) > 0


def test_the_probing_set_shares_no_seed_with_the_training_sets() -> None:
    seeds = [seed for seed, _ in SETS.values()]
    assert SEED not in seeds
    assert len(set(seeds)) == len(seeds)


def test_scenes617_is_246_and_371_prompts_with_their_scenes(scenes617: tuple[Item, ...]) -> None:
    assert [sum(item.split == split for item in scenes617) for split in ("train", "test")] == [
        246,
        371,
    ]
    assert len({item.id for item in scenes617}) == len({item.seed for item in scenes617}) == 617
    assert scenes617 == DATASET.items()
    for item in scenes617[::61]:
        assert DATASET.scene is not None
        assert DATASET.scene(item).attributes == parsed(item.prompt)


def mean_map_r2(maps: torch.Tensor) -> float:
    maps = maps.double()
    return 1 - float((maps - maps.mean(0)).square().sum() / (maps - maps.mean()).square().sum())


def test_position_explains_at_most_half_of_inverse_depth(held_out: Rendered) -> None:
    depth, disparity = mean_map_r2(held_out.depth_m), mean_map_r2(held_out.disparity)
    print(f"variance that position explains: depth {depth:.3f}, disparity {disparity:.3f}")
    assert disparity <= 0.5


def test_the_audit_reports_that_share_for_scenes_it_has_not_seen(held_out: Rendered) -> None:
    for maps in (held_out.depth_m, held_out.disparity, held_out.mask.float()):
        inside, outside = mean_map_r2(maps), share_explained(maps)
        assert inside - 0.03 < outside < inside


def test_the_audit_of_one_repeated_map_is_one_and_of_noise_is_none() -> None:
    rng = np.random.default_rng(0)
    same = torch.from_numpy(rng.normal(size=(1, 8, 8))).expand(64, -1, -1)
    assert share_explained(same) == pytest.approx(1)
    assert share_explained(torch.from_numpy(rng.normal(size=(64, 8, 8)))) < 0


def test_every_scene_shows_its_solid(held_out: Rendered) -> None:
    covered = held_out.mask.float().mean((1, 2))
    assert covered.min() > 0.01
    assert covered.max() < 0.7
