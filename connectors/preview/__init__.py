"""Shows what a sink would send, without Kafka."""
