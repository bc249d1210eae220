"""`python -m connectors.testing.opik_double`: the Opik double, which lives in
`connectors.testing.doubles.opik`."""

from connectors.testing.doubles.opik import main

if __name__ == "__main__":
    main()
