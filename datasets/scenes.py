"""Random scenes: one salient solid on a floor before a wall, and the words of its prompt.

Camera, wall and solid vary so widely that a pixel's position explains less than half of the
variance of inverse depth (``datasets.position_share``): position alone must not predict depth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Rgb = tuple[float, float, float]

SHAPES = ("sphere", "box", "cylinder", "cone")
COLORS: dict[str, Rgb] = {
    "red": (0.85, 0.12, 0.12),
    "orange": (0.95, 0.50, 0.08),
    "yellow": (0.95, 0.88, 0.15),
    "green": (0.15, 0.62, 0.18),
    "cyan": (0.10, 0.80, 0.85),
    "blue": (0.12, 0.22, 0.85),
    "purple": (0.55, 0.15, 0.70),
    "black": (0.07, 0.07, 0.08),
}
FLOORS: dict[str, Rgb] = {
    "sand": (0.80, 0.70, 0.50),
    "stone": (0.55, 0.55, 0.57),
    "grass": (0.42, 0.58, 0.30),
    "clay": (0.65, 0.42, 0.33),
    "snow": (0.90, 0.91, 0.94),
}
WALLS: dict[str, Rgb] = {
    "blue": (0.55, 0.68, 0.86),
    "white": (0.92, 0.92, 0.90),
    "pink": (0.90, 0.66, 0.70),
    "mint": (0.64, 0.84, 0.72),
    "grey": (0.62, 0.62, 0.63),
}
LIGHTS = ("left", "right")

HALF_FOV_RAD = math.radians(30.0)
"""Half the field of view, horizontal and vertical: images are square."""


@dataclass(frozen=True, slots=True)
class Attributes:
    """Words of a scene's prompt."""

    color: str
    shape: str
    floor: str
    wall: str
    light: str

    @property
    def prompt(self) -> str:
        """The prompt with these words."""
        article = "an" if self.color[0] in "aeiou" else "a"
        return (
            f"{article} {self.color} {self.shape} on a {self.floor} floor "
            f"with a {self.wall} wall and light from the {self.light}"
        )


@dataclass(frozen=True, slots=True)
class Solid:
    """A solid on the floor, rotated about the vertical."""

    shape: str
    color: Rgb
    x_m: float
    z_m: float
    radius_m: float
    height_m: float
    rotation_rad: float


@dataclass(frozen=True, slots=True)
class Scene:
    """The renderer's input. The first solid is the salient one; the camera is at x = z = 0."""

    attributes: Attributes
    solids: tuple[Solid, ...]
    camera_height_m: float
    pitch_rad: float
    """Downward pitch of the camera."""
    wall_distance_m: float
    to_light: Rgb
    """Unit vector from the scene towards the light."""
    check_size_m: float


def draw_attributes(rng: np.random.Generator) -> Attributes:
    """Draw the words of one scene, uniformly and independently."""

    def pick(words: Sequence[str]) -> str:
        return words[int(rng.integers(len(words)))]

    return Attributes(
        pick(tuple(COLORS)), pick(SHAPES), pick(tuple(FLOORS)), pick(tuple(WALLS)), pick(LIGHTS)
    )


def draw_scene(seed: int, index: int) -> Scene:
    """Draw scene ``index`` of the set ``seed``; it depends on these two numbers only."""
    rng = np.random.default_rng([seed, index])
    attributes = draw_attributes(rng)
    for _ in range(1000):
        camera_height = rng.uniform(0.5, 2.6)
        pitch = rng.uniform(-0.12, 0.5)
        wall = rng.uniform(5.5, 14.0)
        salient = _draw_solid(
            rng,
            attributes.shape,
            attributes.color,
            radius=rng.uniform(0.4, 1.3),
            z=rng.uniform(2.0, 5.0),
        )
        if _well_placed(salient, camera_height, pitch):
            break
    else:
        raise RuntimeError(f"no well-placed solid in 1000 draws for scene {index} of set {seed}")
    solids = [salient]
    for _ in range(int(rng.integers(3))):
        farthest = wall - 0.4
        z = rng.uniform(min(max(5.0, salient.z_m + salient.radius_m + 0.5), farthest), farthest)
        color = tuple(COLORS)[int(rng.integers(len(COLORS)))]
        shape = SHAPES[int(rng.integers(len(SHAPES)))]
        solids.append(_draw_solid(rng, shape, color, radius=rng.uniform(0.15, 0.35), z=z))
    azimuth = rng.uniform(0.5, 1.2) * (-1.0 if attributes.light == "left" else 1.0)
    elevation = rng.uniform(0.6, 1.05)
    to_light = (
        math.cos(elevation) * math.sin(azimuth),
        math.sin(elevation),
        -math.cos(elevation) * math.cos(azimuth),
    )
    return Scene(
        attributes,
        tuple(solids),
        camera_height,
        pitch,
        wall,
        to_light,
        check_size_m=float(rng.uniform(0.6, 1.4)),
    )


def _draw_solid(rng: np.random.Generator, shape: str, color: str, radius: float, z: float) -> Solid:
    height = radius * {"sphere": 2.0, "box": 1.6, "cylinder": 2.0, "cone": 2.4}[shape]
    if shape != "sphere":
        height *= rng.uniform(0.8, 1.2)
    jittered = np.clip(np.asarray(COLORS[color]) + rng.normal(0.0, 0.02, 3), 0.0, 1.0)
    return Solid(
        shape=shape,
        color=(float(jittered[0]), float(jittered[1]), float(jittered[2])),
        x_m=float(rng.uniform(-0.8, 0.8) * z * math.tan(HALF_FOV_RAD)),
        z_m=float(z),
        radius_m=float(radius),
        height_m=float(height),
        rotation_rad=float(rng.uniform(0.0, math.pi / 2)),
    )


def _well_placed(solid: Solid, camera_height_m: float, pitch_rad: float) -> bool:
    """Whether the solid is well inside the image, large enough, and not around the camera."""
    up = solid.height_m / 2 - camera_height_m
    forward = solid.z_m * math.cos(pitch_rad) - up * math.sin(pitch_rad)
    upward = solid.z_m * math.sin(pitch_rad) + up * math.cos(pitch_rad)
    half = forward * math.tan(HALF_FOV_RAD)
    reach = solid.radius_m * (math.sqrt(2.0) if solid.shape == "box" else 1.0)
    inside = abs(upward) < 0.6 * half and abs(solid.x_m) < 0.65 * half
    size = solid.radius_m / half
    return inside and 0.16 < size < 0.6 and solid.z_m - reach > 0.7
