"""The vendors as judges: what the sinks send, held against the vendors' own published models.

`make test-contract` runs it, and CI. `make vendors`, or the first run, installs the vendors' packages with
pip, an environment each, into ~/.cache/tailrace/vendors; later runs use these. If one cannot be installed,
its tests fail. Opik's and Weave's come with what their models import, not with all that the SDKs depend on
(`inside/bare.py`).

- `inside/<vendor>.py` is the judge of a vendor: what it needs, and what is wrong with a request. It runs in
  the vendor's environment, reads requests as JSON lines and prints errors.
- `strict.py` checks a body against a vendor's types: no unknown key, no literal outside its set, no number as
  text. The SDKs' own parsers let such errors pass.
- `judges.py` makes the requests: it has a sink send records, and keeps what the sink asked of HTTP.
- `planted.py` has errors that each judge must find, `test_judges.py` the tests over all sinks.
- `test_langfuse.py` and `test_opik.py` hold the doubles against the SDKs.

For a new vendor: its package as `REQUIRES` in `inside/<vendor>.py`, perhaps with what its models import, and
`problems(request)` that knows every path of its API to which the sink sends; ten planted errors or more in
`planted.py`. A vendor that publishes no models has its conventions there as a table, and no `REQUIRES`. The
tests find the judge by the name of the sink's type, and fail without one.

`test_apicurio.py` needs a schema registry, which `pytest --vendors` downloads.
"""
