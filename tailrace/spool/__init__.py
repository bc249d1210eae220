"""Events on disk while Kafka cannot be reached (`publisher.spool_dir`)."""
