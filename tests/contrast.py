"""The contrast of two colours, as the Web Content Accessibility Guidelines define it."""

from __future__ import annotations

import re

AA = 4.5
"""The least contrast of text at level AA."""


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours such as ``rgb(0 34 78)`` and ``#fff``."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    if colour.startswith("#"):
        channels = [int(digit * 2, 16) for digit in colour[1:]]
    else:
        channels = [int(channel) for channel in re.findall(r"\d+", colour)]
    red, green, blue = (_linear(channel / 255) for channel in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
