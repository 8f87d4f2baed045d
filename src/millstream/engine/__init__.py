"""The stream engine: pure steps over batches, without I/O and without a clock of their own."""
