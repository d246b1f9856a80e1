"""What each process of torchrun runs in the tests: the command line."""

from resolvent.apps.cli import run

if __name__ == "__main__":
    run()
