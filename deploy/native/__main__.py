"""``python -m deploy.native up``."""

from deploy.native.cli import main

main()
