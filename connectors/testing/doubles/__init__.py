"""Doubles: local servers that enforce a vendor's rules and fail as scripted, one module per vendor.

`server.Double` is their base class: life cycle, fault plans, the record of exchanges, size limits and gzip.
`command` has the command-line options. A double for a new vendor is a subclass of `Double` with its request
groups, its routes, its credentials (`admit`), what it stores of a request, and its error responses
(`error_answer`), plus a `main` made by `double_command`. Start from `opik`.
"""
