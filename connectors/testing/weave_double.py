"""`python -m connectors.testing.weave_double`: the Weave double, which lives in
`connectors.testing.doubles.weave`."""

from connectors.testing.doubles.weave import main

if __name__ == "__main__":
    main()
