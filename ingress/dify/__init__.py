"""Dify's trace records and telemetry envelopes as trace events: the format `dify`. Pure but for the clock.

A line is read (`lines`) by the reader of its class into an operation (`operation`). What others need of it
is remembered (`facts`); what it lacks itself is looked up (`joining`), for which it may wait (`window`). Then
it becomes an event (`building`). `adapter` does these steps line by line.
"""

from ingress.dify.adapter import DifyLines, adapter

__all__ = ["DifyLines", "adapter"]
