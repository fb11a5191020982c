"""python -m headshot is the same as the headshot command."""

from headshot.cli import app

if __name__ == "__main__":
    app()
