"""The ``segsync`` command. A module here reads arguments, calls the floors below and prints; it decides nothing.

- up.py, embedded.py, supervisor.py: the whole service in one foreground command
- serve.py, roles.py, init.py: the roles of a real deployment, and its first records
- segments.py, member.py, rejected_members.py, demo.py: look at a running service; connection.py finds it
- batches.py, batch_*.py, brake.py: what died or was refused; verify.py, rebuild.py: the stores against the logs
- alias.py, policy.py, store.py, keys.py: change its records
- manifest.py and manifest_*.py: tools for authors of manifests, which need no service
"""

from __future__ import annotations

import sys

from worker.errors import Misconfigured, Unavailable


def main() -> None:
    """Run the command line. What a person can put right ends as one line on stderr and exit code 1."""
    from worker.cli.app import app

    try:
        app()
    except (Misconfigured, Unavailable) as error:
        print(f"segsync: {error}", file=sys.stderr)
        sys.exit(1)
