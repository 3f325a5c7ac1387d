"""``python -m pocketformer`` is the command line."""

from pocketformer.cli import main

if __name__ == "__main__":
    main()
