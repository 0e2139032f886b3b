"""`python -m responder` is the console command."""

from __future__ import annotations

from responder.cli import main

if __name__ == "__main__":
    main()
