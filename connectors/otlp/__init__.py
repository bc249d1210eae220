"""OTLP on the record path: spans and requests as protobuf bytes (`wire`) or JSON (`as_json`).

No protobuf classes are used.
"""
