"""The learning benchmark: runs of the trainer and of its peers, and what their ends say."""
