"""What a sink would send, without Kafka."""
