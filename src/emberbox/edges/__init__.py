"""The edges: each speaks one wire to the outside, and none imports another."""
