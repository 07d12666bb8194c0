from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from datasets.label_cache import as_bytes
from datasets.raycast import Rendered, render
from datasets.scenes import HALF_FOV_RAD, Attributes, Scene, Solid, draw_scene

SHAPES = ("sphere", "box", "cylinder", "cone")
SIZE = 40
FIELDS = [field.name for field in dataclasses.fields(Rendered) if field.name != "attributes"]


def scene_with(*solids: Solid, camera: float = 1.4, pitch: float = 0.2, wall: float = 7.0) -> Scene:
    light = np.array([-0.8, 0.55, -0.15])
    return Scene(
        Attributes("red", solids[0].shape if solids else "sphere", "stone", "white", "left"),
        solids,
        camera,
        pitch,
        wall,
        tuple((light / np.linalg.norm(light)).tolist()),
        check_size_m=1.0,
    )


def solid(
    shape: str, x: float = 0.3, z: float = 3.5, radius: float = 0.8, height: float = 1.5
) -> Solid:
    return Solid(
        shape, (0.8, 0.2, 0.2), x, z, radius, 2 * radius if shape == "sphere" else height, 0.5
    )


def inside(point: np.ndarray, s: Solid) -> np.ndarray:
    """Whether points lie in a solid, by its definition."""
    x, y, z = point[..., 0] - s.x_m, point[..., 1], point[..., 2] - s.z_m
    cos, sin = math.cos(s.rotation_rad), math.sin(s.rotation_rad)
    x, z = x * cos - z * sin, x * sin + z * cos
    ring = np.hypot(x, z)
    tall = (y > 0) & (y < s.height_m)
    return {
        "sphere": ring**2 + (y - s.radius_m) ** 2 < s.radius_m**2,
        "box": tall & (np.abs(x) < s.radius_m) & (np.abs(z) < s.radius_m),
        "cylinder": tall & (ring < s.radius_m),
        "cone": tall & (ring < s.radius_m * (1 - y / s.height_m)),
    }[s.shape]


def camera_axes(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Right and up of every pixel's centre at a depth of 1 m."""
    at = ((np.arange(size) + 0.5) / size * 2 - 1) * math.tan(HALF_FOV_RAD)
    right, up = np.meshgrid(at, -at)
    return right, up


def world_rays(scene: Scene, size: int) -> np.ndarray:
    right, up = camera_axes(size)
    cos, sin = math.cos(scene.pitch_rad), math.sin(scene.pitch_rad)
    forward, upward = np.array([0, -sin, cos]), np.array([0, cos, sin])
    return right[..., None] * np.array([1, 0, 0]) + up[..., None] * upward + forward


def room(point: np.ndarray, scene: Scene) -> np.ndarray:
    """Whether points lie beyond the floor or the wall."""
    return (point[..., 1] < 0) | (point[..., 2] > scene.wall_distance_m)


def sampled_depth(
    scene: Scene, filled: Callable[[np.ndarray], np.ndarray], size: int
) -> np.ndarray:
    """March along every ray until a point is filled, then halve the last step."""
    eye, ray = np.array([0, scene.camera_height_m, 0]), world_rays(scene, size)
    depth, step = np.full(ray.shape[:2], np.inf), 0.01
    for near in np.arange(0.1, 3 * scene.wall_distance_m, step):
        new = np.isinf(depth)
        if not new.any():
            break
        depth[new] = np.where(filled(eye + (near + step) * ray[new]), near, np.inf)
    low = np.where(np.isinf(depth), 0, depth)
    high = low + step
    for _ in range(40):
        middle = (low + high) / 2
        hit = filled(eye + middle[..., None] * ray)
        low, high = np.where(hit, low, middle), np.where(hit, middle, high)
    return np.where(np.isinf(depth), np.inf, high)


def inner(mask: np.ndarray, by: int = 1) -> np.ndarray:
    """Pixels whose neighbours are all in the mask."""
    padded = np.pad(mask, by)
    h, w = mask.shape
    return np.all(
        [padded[r : r + h, c : c + w] for r in range(2 * by + 1) for c in range(2 * by + 1)], axis=0
    )


@pytest.mark.parametrize("pitch", [0.25, -0.05])
@pytest.mark.parametrize("shape", SHAPES)
def test_depth_is_where_the_ray_first_enters_the_solid(shape: str, pitch: float) -> None:
    scene = scene_with(solid(shape), pitch=pitch)
    result = render([scene], SIZE)
    depth, mask = result.depth_m[0].numpy(), result.mask[0].numpy()
    exact = sampled_depth(scene, lambda point: inside(point, scene.solids[0]), SIZE)
    background = sampled_depth(scene, lambda point: room(point, scene), SIZE)
    seen = exact < background
    assert seen.mean() > 0.05
    assert (seen != mask).sum() <= 2
    both = seen & mask
    np.testing.assert_allclose(depth[both], exact[both], rtol=0, atol=2e-3)
    np.testing.assert_allclose(depth[~seen & ~mask], background[~seen & ~mask], rtol=1e-5)


def test_nearer_solids_hide_farther_ones_and_only_the_first_is_salient() -> None:
    first, second = solid("box", x=0.5, z=4.5), solid("cone", x=0.0, z=2.6, radius=0.5, height=1.4)
    scene = scene_with(first, second)
    depth = [
        sampled_depth(scene, lambda point, s=s: inside(point, s), SIZE) for s in (first, second)
    ]
    visible = np.isfinite(depth[0]) & (depth[0] < depth[1])
    hidden = np.isfinite(depth[0]) & (depth[1] < depth[0])
    mask = render([scene], SIZE).mask[0].numpy()
    assert hidden.sum() > 10 < visible.sum()
    assert (mask != visible).sum() <= 3


@pytest.mark.parametrize("shape", [*SHAPES, None])
def test_normals_are_unit_and_match_the_unprojected_depth(shape: str | None) -> None:
    size = 160
    scene = scene_with(solid(shape)) if shape else scene_with(solid("sphere", radius=0.1, x=2.0))
    result = render([scene], size)
    normals, depth = result.normals[0].double().numpy(), result.depth_m[0].double().numpy()
    np.testing.assert_allclose(np.linalg.norm(normals, axis=0), 1, atol=1e-5)
    right, up = camera_axes(size)
    point = np.stack([right, up, -np.ones_like(up)]) * depth
    across, down = np.gradient(point, axis=2), np.gradient(point, axis=1)
    crossed = np.cross(down, across, axis=0)
    crossed /= np.linalg.norm(crossed, axis=0)
    same = np.ones((size, size), bool)
    for axis in (1, 2):
        for shift in (-1, 1):
            same &= (normals * np.roll(normals, shift, axis)).sum(0) > 0.95
    mask = result.mask[0].numpy()
    where = inner(mask & same, 2) if shape else inner(~mask & same, 2)
    assert where[2:-2, 2:-2].sum() > 300
    cosine = (normals * crossed).sum(0)[2:-2, 2:-2][where[2:-2, 2:-2]]
    assert np.quantile(cosine, 0.01) > 0.999
    assert cosine.min() > 0.99


def test_floor_and_wall_face_up_and_towards_the_camera() -> None:
    pitch = 0.3
    scene = scene_with(solid("sphere", x=0.0, radius=0.3), pitch=pitch, wall=6.0)
    normals = render([scene], SIZE).normals[0].numpy()
    np.testing.assert_allclose(normals[:, -1, 0], [0, math.cos(pitch), math.sin(pitch)], atol=1e-6)
    np.testing.assert_allclose(normals[:, 0, 0], [0, -math.sin(pitch), math.cos(pitch)], atol=1e-6)


@pytest.mark.parametrize(("radius", "z"), [(0.5, 3.0), (1.0, 4.0), (0.4, 2.0)])
def test_a_centred_sphere_covers_the_area_of_its_projection(radius: float, z: float) -> None:
    scene = scene_with(solid("sphere", x=0.0, z=z, radius=radius), camera=radius, pitch=0.0)
    size = 128
    mask = render([scene], size).mask[0].numpy()
    radius_px = radius / math.sqrt(z**2 - radius**2) / math.tan(HALF_FOV_RAD) * size / 2
    assert mask.sum() == pytest.approx(math.pi * radius_px**2, rel=0.015)
    rows, columns = np.nonzero(mask)
    np.testing.assert_allclose([rows.mean(), columns.mean()], (size - 1) / 2, atol=1e-6)


@pytest.mark.parametrize("shape", SHAPES)
def test_shadows_are_where_a_march_towards_the_light_is_stopped(shape: str) -> None:
    scene = scene_with(solid(shape, x=-0.4, height=1.6), camera=2.2, pitch=0.45)
    size = 64
    result = render([scene], size)
    depth = result.depth_m[0].double().numpy()
    eye, ray = np.array([0, scene.camera_height_m, 0]), world_rays(scene, size)
    point = eye + depth[..., None] * ray
    light = np.array(scene.to_light)
    blocked = np.zeros(depth.shape, bool)
    for reach in np.arange(0.02, 5, 0.01):
        blocked |= inside(point + reach * light, scene.solids[0])
    shadow = result.shadow[0].numpy()
    mask = result.mask[0].numpy()
    sure = inner(blocked) | inner(~blocked)
    for part in (mask, ~mask):
        assert (blocked & part & sure & inner(part)).sum() > 10
        wrong = (blocked != shadow) & sure & inner(part)
        assert wrong.sum() == 0


def test_shaded_pixels_are_darker() -> None:
    scene = scene_with(solid("box", x=-0.3, height=1.1), camera=2.2, pitch=0.45)
    result = render([scene], SIZE)
    brightness, shadow, mask = (
        result.rgb[0].mean(0).numpy(),
        result.shadow[0].numpy(),
        result.mask[0].numpy(),
    )
    floor = (result.normals[0, 1].numpy() > 0.85) & ~mask
    dark, bright = inner(shadow & floor), inner(~shadow & floor)
    assert dark.sum() > 10 < bright.sum()
    assert brightness[dark].max() < 0.8 * brightness[bright].min()


def test_a_batch_equals_its_scenes_alone() -> None:
    scenes = [draw_scene(3, index) for index in range(7)]
    together = render(scenes, 32)
    for index, scene in enumerate(scenes):
        alone = render([scene], 32)
        for name in FIELDS:
            assert torch.equal(getattr(together, name)[index], getattr(alone, name)[0]), name


def test_rendering_twice_gives_the_same_bits() -> None:
    scenes = [draw_scene(3, index) for index in range(3)]
    first, second = render(scenes, 32), render(scenes, 32)
    for name in FIELDS:
        assert torch.equal(getattr(first, name), getattr(second, name))


def mirrored(scene: Scene) -> Scene:
    flipped = tuple(
        dataclasses.replace(s, x_m=-s.x_m, rotation_rad=-s.rotation_rad) for s in scene.solids
    )
    x, y, z = scene.to_light
    return dataclasses.replace(scene, solids=flipped, to_light=(-x, y, z))


@pytest.mark.parametrize("index", range(8))
def test_a_mirrored_scene_gives_the_mirrored_image(index: int) -> None:
    scene = draw_scene(4, index)
    one, other = render([scene], 64), render([mirrored(scene)], 64)
    torch.testing.assert_close(other.depth_m, one.depth_m.flip(-1), rtol=1e-4, atol=1e-4)
    assert (other.mask != one.mask.flip(-1)).sum() <= 1
    assert (other.shadow != one.shadow.flip(-1)).sum() <= 3
    sign = torch.tensor([-1.0, 1.0, 1.0]).view(1, 3, 1, 1)
    assert ((other.normals - one.normals.flip(-1) * sign).abs() > 1e-3).sum() <= 9
    solid_only = torch.from_numpy(inner(other.mask[0].numpy()))
    difference = (other.rgb - one.rgb.flip(-1))[0, :, solid_only].abs()
    assert (difference > 2e-3).sum() <= 3


@pytest.mark.parametrize(("side", "x"), [("left", -0.6), ("right", 0.6)])
def test_the_lit_side_is_the_side_of_the_light(side: str, x: float) -> None:
    scene = scene_with(solid("sphere", x=0.0, radius=0.9), camera=0.9, pitch=0.0)
    light = np.array([x, 0.5, -0.6])
    scene = dataclasses.replace(scene, to_light=tuple((light / np.linalg.norm(light)).tolist()))
    result = render([scene], 64)
    half = np.arange(64) < 32
    mask, rgb = result.mask[0].numpy(), result.rgb[0].mean(0).numpy()
    left, right = rgb[mask & half].mean(), rgb[mask & ~half].mean()
    assert (left > right + 0.03) == (side == "left")
    assert (right > left + 0.03) == (side == "right")


def test_labels_are_finite_and_in_range(held_out: Rendered) -> None:
    torch.testing.assert_close(
        held_out.disparity * held_out.depth_m, torch.ones_like(held_out.depth_m)
    )
    for name in ("rgb", "depth_m", "normals"):
        assert torch.isfinite(getattr(held_out, name)).all()
    assert held_out.rgb.min() >= 0
    assert held_out.rgb.max() <= 1
    assert held_out.depth_m.min() > 0.1
    lengths = held_out.normals.norm(dim=1)
    torch.testing.assert_close(lengths, torch.ones_like(lengths), rtol=0, atol=1e-4)


def test_no_visible_surface_faces_away_from_the_camera(held_out: Rendered) -> None:
    right, up = camera_axes(64)
    view = np.stack([-right, -up, np.ones_like(up)])
    facing = (held_out.normals.numpy() * (view / np.linalg.norm(view, axis=0))).sum(1)
    assert facing.min() > -0.01


def test_images_become_bytes_by_rounding() -> None:
    levels = torch.tensor([0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.2, -0.1]).view(1, 3, 1, 2)
    assert as_bytes(levels).flatten().tolist() == [0, 0, 1, 255, 255, 0]
