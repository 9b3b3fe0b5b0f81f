"""``python -m worker`` is ``segsync``."""

from worker.cli import main

if __name__ == "__main__":
    main()
