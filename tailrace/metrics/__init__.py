"""Reading metric rows, and merging them into windows."""
