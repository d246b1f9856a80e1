"""The device of the tests is one."""

from __future__ import annotations

import pytest
import torch
from elsewhere import Elsewhere, Remote


def test_values_go_there_and_back():
    x = torch.randn(2, 3, dtype=torch.complex128)
    with Elsewhere() as device:
        remote = x.to(device)
        assert isinstance(remote, Remote) and remote.device == device == torch.zeros(2, device=device).device
        assert torch.equal((2 * remote.conj()).mT.cpu(), (2 * x.conj()).mT)
        view = torch.view_as_real(remote)
        view.mul_(2)
        assert torch.equal(remote.cpu(), 2 * x) and float(remote.abs().sum()) == float((2 * x).abs().sum())
        assert torch.tensor([1, 2], device=device).tolist() == [1, 2]
        layer = torch.nn.Linear(3, 2).to(device)
        layer(remote.real.float()).sum().backward()
        assert layer.weight.grad.device == device


def test_devices_do_not_mix():
    with Elsewhere() as device:
        remote = torch.ones(3, device=device)
        assert torch.equal((remote + torch.tensor(1.0)).cpu(), torch.full((3,), 2.0))
        with pytest.raises(RuntimeError, match=r"aten.add.Tensor: found tensors of two devices, expected one"):
            remote + torch.ones(3)
        with pytest.raises(RuntimeError, match="of two devices"):
            torch.ones(3).mul_(remote)
        with pytest.raises(TypeError, match="expected one of the CPU"):
            remote.numpy()
        local = torch.empty(3)
        local.copy_(remote)
        assert torch.equal(local, remote[torch.tensor([0, 1, 2])].cpu())
