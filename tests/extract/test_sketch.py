"""Sketches of wide activations: orthogonal, seeded by the layer, and close to the whole."""

from __future__ import annotations

import torch

from extract.sketch import Sketch, orthogonal_map


def test_the_map_has_orthonormal_columns_and_belongs_to_the_layer() -> None:
    first = orthogonal_map("up2.1", 96, 32)
    torch.testing.assert_close(first.mT @ first, torch.eye(32), rtol=0, atol=1e-5)
    assert torch.equal(first, orthogonal_map("up2.1", 96, 32))
    assert not torch.equal(first, orthogonal_map("up2.2", 96, 32))


def test_narrow_layers_stay_as_they_are() -> None:
    activation = torch.randn(2, 5, 16)
    assert Sketch(16)("mid.0", activation) is activation
    assert Sketch(8)("mid.0", activation).shape == (2, 5, 8)


def test_the_precision_and_the_rows_of_an_activation_are_kept() -> None:
    activation = torch.randn(3, 4, 64)
    sketch = Sketch(16)
    assert sketch("a", activation.half()).dtype == torch.float16
    together, alone = sketch("a", activation), sketch("a", activation[1:2])
    torch.testing.assert_close(together[1:2], alone, rtol=1e-5, atol=1e-5)


def test_inner_products_are_kept_on_average() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 256, generator=generator)
    projected = Sketch(128)("block0", x[None])[0]
    # A projection to half of the channels keeps half of the squared norm.
    ratio = projected.square().sum(1) / x.square().sum(1)
    assert abs(float(ratio.mean()) - 0.5) < 0.02
    # Cosines of random pairs err by about 1 / sqrt(128).
    unit, small = x / x.norm(dim=1, keepdim=True), projected / projected.norm(dim=1, keepdim=True)
    errors = (unit @ unit.mT - small @ small.mT)[~torch.eye(400, dtype=torch.bool)]
    assert float(errors.square().mean().sqrt()) < 1.2 / 128**0.5
