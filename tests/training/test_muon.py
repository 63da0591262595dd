"""Muon: its updates are orthogonal, its steps are torch's in a wider number format."""

import pytest
import torch

from dovetail.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(64, 128), (128, 128), (320, 128)])
def test_updates_have_singular_values_near_one(shape):
    torch.manual_seed(0)
    singular = torch.linalg.svdvals(orthogonalised(torch.randn(3, *shape)))
    assert singular.shape == (3, min(shape))
    assert singular.max() < 1.3
    # a square random matrix has some singular values near zero, which five iterations only begin to lift
    assert (singular > 0.6).float().mean() > 0.95


def test_matrices_of_one_shape_do_not_mix():
    torch.manual_seed(1)
    matrices = torch.randn(2, 8, 16)
    alone = torch.cat([orthogonalised(m[None]) for m in matrices])
    torch.testing.assert_close(orthogonalised(matrices), alone)


@pytest.mark.parametrize("shape", [(16, 32), (48, 16)])
def test_steps_are_torchs_up_to_bfloat16(shape):
    torch.manual_seed(2)
    ours = torch.nn.Parameter(torch.randn(*shape))
    theirs = torch.nn.Parameter(ours.detach().clone())
    start = ours.detach().clone()
    mine = Muon([ours], lr=0.02, weight_decay=0.05, momentum=0.9)
    reference = torch.optim.Muon([theirs], lr=0.02, weight_decay=0.05, momentum=0.9)
    for _ in range(3):
        gradient = torch.randn(*shape)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        mine.step()
        reference.step()
    moved = (theirs - start).norm()
    assert (ours - theirs).norm() < 0.03 * moved


def test_a_parameter_without_gradient_stays():
    still = torch.nn.Parameter(torch.ones(2, 2))
    Muon([still], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(still, torch.ones(2, 2))
