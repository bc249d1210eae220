"""Doubles: one local server a vendor, that demands what the vendor demands and fails as scripted.

`server.Double` is what all of them share: the server's life cycle, fault plans, the record of exchanges,
size limits and gzip; `command` has the command-line options. A new vendor's double is a subclass of `Double`
that names its request groups, its routes, its credentials (`admit`), what it keeps of a request, and how its
errors look (`error_answer`), plus a `main` made by `double_command`. Start from `opik`."""
