"""`make matrix`: the tests on every supported Python and TensorFlow that this machine has or can install."""

import nox

nox.options.default_venv_backend = "virtualenv"


@nox.session(python=["3.10", "3.11", "3.12", "3.13"])
@nox.parametrize("tensorflow", ["2.19", "2.20", "2.21"])
def tests(session, tensorflow):
    """All tests but those in a browser, and the two notebooks that take seconds."""
    session.install(f"tensorflow=={tensorflow}.*", "-e", ".[test]")
    session.run("pytest", "tests", "--ignore=tests/test_browser.py", *session.posargs)
    session.run("pytest", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300",
                "notebooks/02_game.ipynb", "notebooks/03_networks.ipynb")
