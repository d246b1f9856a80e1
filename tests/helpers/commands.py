"""The command line, and what it says."""

from resolvent.apps.cli import main


def refused(capsys, arguments, code, message):
    """One line on standard error, with ``message`` in it."""
    assert main(arguments) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1, error
