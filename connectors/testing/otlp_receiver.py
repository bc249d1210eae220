"""`python -m connectors.testing.otlp_receiver`: the OTLP double, which lives in
`connectors.testing.doubles.otlp`."""

from connectors.testing.doubles.otlp import main

if __name__ == "__main__":
    main()
