"""The optimizer of the bundled masked models."""

import torch


def test_muon_turns_matrices_of_one_shape_together_as_it_would_one_by_one():
    from itscale.experiments.train_digits import Muon, orthogonal

    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 16, 40, generator=generator)
    gradients = torch.randn(3, 16, 40, generator=generator)
    together = [row.clone().requires_grad_() for row in start]
    optimizer = Muon(together, lr=0.01, weight_decay=0.1)
    for p, gradient in zip(together, gradients, strict=True):
        p.grad = gradient.clone()
    optimizer.step()
    for p, before, gradient in zip(together, start, gradients, strict=True):
        turned = orthogonal(1.95 * gradient[None])[0]
        expected = before * (1 - 0.001) - 0.01 * 0.2 * 40**0.5 * turned
        torch.testing.assert_close(p.detach(), expected, atol=1e-6, rtol=0)
        assert (torch.linalg.svdvals(turned) - 1).abs().max() < 0.35
