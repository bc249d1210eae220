"""`python -m connectors.testing.alibaba_double`: the Alibaba Cloud double, which lives in
`connectors.testing.doubles.alibaba`."""

from connectors.testing.doubles.alibaba import main

if __name__ == "__main__":
    main()
