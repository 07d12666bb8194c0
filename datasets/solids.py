"""Surfaces of the solids: where a ray hits one, and the normal there.

All in the solid's own frame: it stands on y = 0 with its axis on x = z = 0. Origins and rays are
``m x p x 3``, radius and height of the m solids ``m x 1``. Distances are in units of the ray's
length, infinite for a miss.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

EPSILON = 1e-4
"""Metres: a hit nearer than this is the surface that the ray starts from."""
_FAR = float("inf")


def _first(candidates: Sequence[Tensor], valid: Sequence[Tensor]) -> Tensor:
    best = torch.full_like(candidates[0], _FAR)
    for t, ok in zip(candidates, valid, strict=True):
        best = torch.minimum(best, torch.where(ok & (t > EPSILON), t, _FAR))
    return best


def _roots(a: Tensor, half_b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both roots of a t^2 + 2 half_b t + c, and whether they are real."""
    disc = half_b**2 - a * c
    safe = torch.where(a.abs() < 1e-9, 1e-9, a)
    root = disc.clamp(min=0).sqrt()
    return (-half_b - root) / safe, (-half_b + root) / safe, disc > 0


def _disc(o: Tensor, d: Tensor, r: Tensor, y: Tensor | float) -> tuple[Tensor, Tensor]:
    """Distance to the plane at height y, and whether the ray hits its disc of radius r."""
    dy = torch.where(d[..., 1].abs() < 1e-9, 1e-9, d[..., 1])
    t = (y - o[..., 1]) / dy
    return t, (o[..., 0] + t * d[..., 0]) ** 2 + (o[..., 2] + t * d[..., 2]) ** 2 <= r**2


def _hit_sphere(o: Tensor, d: Tensor, r: Tensor, h: Tensor) -> Tensor:
    oy = o[..., 1] - r
    a = (d**2).sum(-1)
    half_b = o[..., 0] * d[..., 0] + oy * d[..., 1] + o[..., 2] * d[..., 2]
    near, far, real = _roots(a, half_b, o[..., 0] ** 2 + oy**2 + o[..., 2] ** 2 - r**2)
    return _first([near, far], [real, real])


def _hit_box(o: Tensor, d: Tensor, r: Tensor, h: Tensor) -> Tensor:
    low = torch.stack([-r, torch.zeros_like(h), -r], dim=-1)
    high = torch.stack([r, h, r], dim=-1)
    safe = torch.where(d.abs() < 1e-9, 1e-9, d)
    a, b = (low - o) / safe, (high - o) / safe
    enter = torch.minimum(a, b).amax(-1)
    leave = torch.maximum(a, b).amin(-1)
    real = enter < leave
    return _first([enter, leave], [real, real])


def _hit_cylinder(o: Tensor, d: Tensor, r: Tensor, h: Tensor) -> Tensor:
    a = d[..., 0] ** 2 + d[..., 2] ** 2
    half_b = o[..., 0] * d[..., 0] + o[..., 2] * d[..., 2]
    near, far, real = _roots(a, half_b, o[..., 0] ** 2 + o[..., 2] ** 2 - r**2)

    def on_side(t: Tensor) -> Tensor:
        y = o[..., 1] + t * d[..., 1]
        return real & (y >= 0) & (y <= h)

    top, on_top = _disc(o, d, r, h)
    return _first([near, far, top], [on_side(near), on_side(far), on_top])


def _hit_cone(o: Tensor, d: Tensor, r: Tensor, h: Tensor) -> Tensor:
    k = (r / h) ** 2
    oy = o[..., 1] - h
    a = d[..., 0] ** 2 + d[..., 2] ** 2 - k * d[..., 1] ** 2
    half_b = o[..., 0] * d[..., 0] + o[..., 2] * d[..., 2] - k * oy * d[..., 1]
    near, far, real = _roots(a, half_b, o[..., 0] ** 2 + o[..., 2] ** 2 - k * oy**2)

    def on_side(t: Tensor) -> Tensor:
        y = o[..., 1] + t * d[..., 1]
        return real & (y >= 0) & (y <= h)

    base, on_base = _disc(o, d, r, 0.0)
    return _first([near, far, base], [on_side(near), on_side(far), on_base])


def _unit(v: Tensor) -> Tensor:
    unit: Tensor = v / v.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return unit


def _normal_sphere(p: Tensor, r: Tensor, h: Tensor) -> Tensor:
    return _unit(p - torch.stack([torch.zeros_like(r), r, torch.zeros_like(r)], dim=-1))


def _normal_box(p: Tensor, r: Tensor, h: Tensor) -> Tensor:
    scaled = torch.stack([p[..., 0] / r, (p[..., 1] - h / 2) / (h / 2), p[..., 2] / r], dim=-1)
    face = scaled.abs().argmax(-1, keepdim=True)
    return torch.zeros_like(p).scatter(-1, face, scaled.gather(-1, face).sign())


def _normal_cylinder(p: Tensor, r: Tensor, h: Tensor) -> Tensor:
    radial = _unit(p * torch.tensor([1.0, 0.0, 1.0]))
    ring = (p[..., 0] ** 2 + p[..., 2] ** 2).sqrt()
    on_top = (p[..., 1] - h).abs() < (ring - r).abs()
    return torch.where(on_top[..., None], torch.tensor([0.0, 1.0, 0.0]), radial)


def _normal_cone(p: Tensor, r: Tensor, h: Tensor) -> Tensor:
    ring = (p[..., 0] ** 2 + p[..., 2] ** 2).sqrt()
    return _unit(torch.stack([p[..., 0], ring * r / h, p[..., 2]], dim=-1))


_Hit = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
_Normal = Callable[[Tensor, Tensor, Tensor], Tensor]
HIT: dict[str, _Hit] = {
    "sphere": _hit_sphere,
    "box": _hit_box,
    "cylinder": _hit_cylinder,
    "cone": _hit_cone,
}
NORMAL: dict[str, _Normal] = {
    "sphere": _normal_sphere,
    "box": _normal_box,
    "cylinder": _normal_cylinder,
    "cone": _normal_cone,
}
