"""From arrivals to commits, in batches."""
