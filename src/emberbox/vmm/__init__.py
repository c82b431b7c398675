"""Engines behind one interface (base.py). Knows nothing of images, accounts or rows.

`paged` is what engines share that keep a guest's memory as pages of files; `engines` has them all by name.
"""
