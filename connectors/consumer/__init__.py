"""Reading `trace.enriched` for a sink: a thread with a consumer group, its partitions, dead letters and
commits."""
