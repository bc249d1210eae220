"""`python -m connectors.testing.langfuse_double`: the Langfuse double, which lives in
`connectors.testing.doubles.langfuse`."""

from connectors.testing.doubles.langfuse import main

if __name__ == "__main__":
    main()
