"""Saved state as a memory file with layers of pages over it, for engines whose process maps these files privately.

Which pages count is in `Saved.details`: `layers` of a base, lowest first, each with its file and the runs of its pages;
`runs` of what one VM adds, whose pages are in `memory.layer`. docs/decisions/0001 says why.
"""
