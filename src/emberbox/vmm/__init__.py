"""One module per VMM behind one small interface. Knows nothing of images, accounts or rows."""
