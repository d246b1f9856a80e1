"""What each process of torchrun runs in the tests: the command line, in double precision."""

import torch

from resolvent.apps.cli import run

if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)
    run()
