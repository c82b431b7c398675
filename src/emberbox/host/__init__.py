"""One machine's processes, disks, memory and network; everything here can be undone."""
