"""`python -m lenssteer`."""

from lenssteer.cli.main import main

main()
