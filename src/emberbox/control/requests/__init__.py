"""What all operations share: pages, repeats, batches."""
