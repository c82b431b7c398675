"""Applications' output: written, kept and asked for."""
