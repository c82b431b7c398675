"""Sandboxes as agent frameworks want them: each module needs its framework, which an extra of this name installs."""
