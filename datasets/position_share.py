"""Share of depth's variance that position explains: ``python -m datasets.position_share``.

Print the share of the variance of depth, inverse depth and saliency that the mean map of other
scenes explains.
"""

from __future__ import annotations

import argparse

import torch
from jaxtyping import Float
from torch import Tensor

from datasets.render import SETS, rendered, scenes_of


def share_explained(maps: Float[Tensor, "n h w"]) -> float:
    """1 - (squared error of each half's mean map on the other half) / variance."""
    first, second = maps[: len(maps) // 2], maps[len(maps) // 2 :]
    error = float((first - second.mean(0)).square().sum())
    error += float((second - first.mean(0)).square().sum())
    return 1 - error / float((maps - maps.mean()).square().sum())


def main() -> None:
    """Print the figures of a set."""
    parser = argparse.ArgumentParser(prog="python -m datasets.position_share", description=__doc__)
    parser.add_argument("--set", choices=sorted(SETS), default="held-out")
    parser.add_argument("--limit", type=int, default=1024)
    arguments = parser.parse_args()
    chunks = list(rendered(scenes_of(arguments.set, arguments.limit)))
    mask = torch.cat([chunk.mask for chunk in chunks]).float()
    maps = {
        "depth in metres": torch.cat([chunk.depth_m for chunk in chunks]),
        "inverse depth": torch.cat([chunk.disparity for chunk in chunks]),
        "saliency": mask,
    }
    print(
        f"share of variance that position explains, {len(mask)} scenes of the set {arguments.set}:"
    )
    for name, value in maps.items():
        print(f"  {name:<16} {share_explained(value):.3f}")
    log = maps["depth in metres"].double().log()
    print(f"ln(depth / m): mean {float(log.mean()):.3f}, standard deviation {float(log.std()):.3f}")
    print(f"the salient solid covers {float(mask.mean()):.3f} of the image")


if __name__ == "__main__":
    main()
