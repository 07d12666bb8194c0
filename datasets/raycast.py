"""Render scenes: a batched ray caster for images with exact depth, masks, normals and shadows.

Coordinates are metres: x to the right, y up (the floor is y = 0), z away from the camera. Solids of
one shape are intersected together across scenes. The image averages 2 x 2 rays per pixel; labels
belong to the ray through the pixel's centre.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from datasets.scenes import FLOORS, HALF_FOV_RAD, SHAPES, WALLS, Attributes, Scene
from datasets.solids import EPSILON, HIT, NORMAL

AMBIENT = 0.38
_FAR = float("inf")


@dataclass(frozen=True, slots=True)
class Rendered:
    """Images and exact labels of n scenes."""

    rgb: Float[Tensor, "n 3 h w"]
    """In 0..1."""
    depth_m: Float[Tensor, "n h w"]
    """Distance along the optical axis."""
    mask: Bool[Tensor, "n h w"]
    """True on the salient solid."""
    normals: Float[Tensor, "n 3 h w"]
    """Unit surface normals in camera axes (right, up, towards the camera)."""
    shadow: Bool[Tensor, "n h w"]
    """True where no direct light falls."""
    attributes: tuple[Attributes, ...]
    """Words of each scene."""

    @property
    def disparity(self) -> Float[Tensor, "n h w"]:
        """Inverse depth in 1/m."""
        return 1.0 / self.depth_m


def render(scenes: Sequence[Scene], size: int = 64) -> Rendered:
    """Render ``scenes`` at ``size`` x ``size`` pixels."""
    batch = _Batch(scenes)
    fine = _shade(batch, _rays(batch, 2 * size))
    rgb = torch.nn.functional.avg_pool2d(
        fine.color.unflatten(1, (2 * size, 2 * size)).permute(0, 3, 1, 2), 2
    )
    centre = _shade(batch, _rays(batch, size))
    square = (size, size)
    return Rendered(
        rgb=rgb.contiguous(),
        depth_m=centre.depth.unflatten(1, square),
        mask=(centre.solid == 0).unflatten(1, square),
        normals=batch.to_camera(centre.normal)
        .unflatten(1, square)
        .permute(0, 3, 1, 2)
        .contiguous(),
        shadow=centre.shadow.unflatten(1, square),
        attributes=tuple(scene.attributes for scene in scenes),
    )


class _Batch:
    """The scenes as tensors, with solids grouped by shape."""

    def __init__(self, scenes: Sequence[Scene]) -> None:
        def column(values: list[float]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32)

        def colors(values: list[tuple[float, float, float]]) -> Tensor:
            return torch.tensor(values, dtype=torch.float32)

        self.count = len(scenes)
        self.height = column([s.camera_height_m for s in scenes])
        self.pitch = column([s.pitch_rad for s in scenes])
        self.wall = column([s.wall_distance_m for s in scenes])
        self.check = column([s.check_size_m for s in scenes])
        self.to_light = colors([s.to_light for s in scenes])
        self.floor_color = colors([FLOORS[s.attributes.floor] for s in scenes])
        self.wall_color = colors([WALLS[s.attributes.wall] for s in scenes])
        self.most_solids = max(len(s.solids) for s in scenes)
        self.solid_color = torch.zeros(self.count, self.most_solids, 3)
        self.groups: list[_Group] = []
        for n, scene in enumerate(scenes):
            for k, solid in enumerate(scene.solids):
                self.solid_color[n, k] = torch.tensor(solid.color)
        for shape in SHAPES:
            members = [
                (n, k, s)
                for n, scene in enumerate(scenes)
                for k, s in enumerate(scene.solids)
                if s.shape == shape
            ]
            if members:
                self.groups.append(
                    _Group(
                        shape=shape,
                        scene=torch.tensor([n for n, _, _ in members]),
                        solid=torch.tensor([k for _, k, _ in members]),
                        site=column([v for _, _, s in members for v in (s.x_m, 0.0, s.z_m)]).view(
                            -1, 1, 3
                        ),
                        angle=column([s.rotation_rad for _, _, s in members]).view(-1, 1),
                        radius=column([s.radius_m for _, _, s in members]).view(-1, 1),
                        height=column([s.height_m for _, _, s in members]).view(-1, 1),
                    )
                )

    def to_camera(self, v: Float[Tensor, "n p 3"]) -> Float[Tensor, "n p 3"]:
        """World axes to camera axes (right, up, towards the camera)."""
        cos, sin = self.pitch.cos()[:, None], self.pitch.sin()[:, None]
        forward = v[..., 2] * cos - v[..., 1] * sin
        up = v[..., 2] * sin + v[..., 1] * cos
        return torch.stack([v[..., 0], up, -forward], dim=-1)


@dataclass(frozen=True, slots=True)
class _Group:
    """All m solids of one shape, with the index of each one's scene and of the solid in it."""

    shape: str
    scene: Int[Tensor, " m"]
    solid: Int[Tensor, " m"]
    site: Float[Tensor, "m 1 3"]
    angle: Float[Tensor, "m 1"]
    radius: Float[Tensor, "m 1"]
    height: Float[Tensor, "m 1"]

    def turn(self, v: Float[Tensor, "m p 3"], sign: float) -> Float[Tensor, "m p 3"]:
        """Rotate about the vertical: ``sign`` +1 into the solid's frame, -1 back."""
        cos, sin = self.angle.cos(), sign * self.angle.sin()
        return torch.stack(
            [v[..., 0] * cos - v[..., 2] * sin, v[..., 1], v[..., 0] * sin + v[..., 2] * cos],
            dim=-1,
        )

    def hit(
        self, origin: Float[Tensor, "n p 3"], ray: Float[Tensor, "n p 3"]
    ) -> Float[Tensor, "m p"]:
        """Distance along each ray to each solid, in units of its length; infinite for a miss."""
        o = self.turn(origin[self.scene] - self.site, 1.0)
        d = self.turn(ray[self.scene], 1.0)
        return HIT[self.shape](o, d, self.radius, self.height)

    def normal(self, point: Float[Tensor, "m p 3"]) -> Float[Tensor, "m p 3"]:
        """Outward unit normal at points on the surfaces, in world axes."""
        local = self.turn(point - self.site, 1.0)
        return self.turn(NORMAL[self.shape](local, self.radius, self.height), -1.0)


@dataclass(frozen=True, slots=True)
class _Shaded:
    color: Float[Tensor, "n p 3"]
    depth: Float[Tensor, "n p"]
    solid: Int[Tensor, "n p"]
    """Index of the solid seen, -1 floor or wall."""
    normal: Float[Tensor, "n p 3"]
    shadow: Bool[Tensor, "n p"]


def _rays(batch: _Batch, size: int) -> Float[Tensor, "n p 3"]:
    """World directions through the pixel centres, scaled to advance 1 m along the optical axis."""
    at = (torch.arange(size, dtype=torch.float32) + 0.5) / size * 2 - 1
    reach = math.tan(HALF_FOV_RAD)
    up, right = torch.meshgrid(-at * reach, at * reach, indexing="ij")
    right, up = right.reshape(1, -1).expand(batch.count, -1), up.reshape(1, -1)
    cos, sin = batch.pitch.cos()[:, None], batch.pitch.sin()[:, None]
    return torch.stack([right, up * cos - sin, cos + up * sin], dim=-1)


def _shade(batch: _Batch, ray: Float[Tensor, "n p 3"]) -> _Shaded:
    eye = torch.zeros(batch.count, 1, 3)
    eye[:, 0, 1] = batch.height
    origin = eye.expand_as(ray)
    to_wall = batch.wall[:, None] / ray[..., 2]
    to_floor = torch.where(
        ray[..., 1] < 0, -batch.height[:, None] / ray[..., 1].clamp(max=-1e-9), _FAR
    )
    on_floor = to_floor < to_wall
    depth = torch.minimum(to_floor, to_wall)
    solid = torch.full_like(depth, -1, dtype=torch.long)
    reach = [group.hit(origin, ray) for group in batch.groups]
    for group, distance in zip(batch.groups, reach, strict=True):
        for m in range(len(group.scene)):
            n = int(group.scene[m])
            nearer = distance[m] < depth[n]
            depth[n] = torch.where(nearer, distance[m], depth[n])
            solid[n] = torch.where(nearer, group.solid[m], solid[n])
    point = origin + depth[..., None] * ray
    normal = torch.where(
        on_floor[..., None], torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, -1.0])
    )
    for group in batch.groups:
        outward = group.normal(point[group.scene])
        for m in range(len(group.scene)):
            n = int(group.scene[m])
            normal[n] = torch.where((solid[n] == group.solid[m])[:, None], outward[m], normal[n])
    check = (
        (point[..., 0] / batch.check[:, None]).floor()
        + (point[..., 2] / batch.check[:, None]).floor()
    ) % 2
    floor = batch.floor_color[:, None] * (0.93 + 0.07 * check[..., None])
    base = torch.where(on_floor[..., None], floor, batch.wall_color[:, None])
    seen = batch.solid_color.gather(1, solid.clamp(min=0)[..., None].expand(-1, -1, 3))
    base = torch.where((solid >= 0)[..., None], seen, base)
    light = batch.to_light[:, None].expand_as(ray)
    facing = (normal * light).sum(-1)
    start = point + EPSILON * 10 * normal
    blocked = facing <= 0
    for group in batch.groups:
        hits = group.hit(start, light) < _FAR
        for m in range(len(group.scene)):
            blocked[int(group.scene[m])] |= hits[m]
    lit = torch.where(blocked, 0.0, facing)
    color = base * (AMBIENT + (1 - AMBIENT) * 1.15 * lit)[..., None]
    return _Shaded(color.clamp(0, 1), depth, solid, normal, blocked)
