"""How far two tensors are apart."""

import torch


def relative(a, b):
    """``|a - b| / |b|``."""
    return float(torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b))
