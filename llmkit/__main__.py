"""`python -m llmkit` is the `llmkit` command."""

from llmkit.cli.app import main

if __name__ == "__main__":
    main()
