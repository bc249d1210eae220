"""The processor on Kafka and Faust: ownership, transactions, restoring state, workers."""
