"""Images from archives and registries: what is hostile in them is judged in a process of its own (`__main__`)."""
