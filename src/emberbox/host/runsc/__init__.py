"""gVisor's `runsc`: the bundle it reads, its command line, and the control protocol of its sandboxes.

A sandbox is made by the command line once (`command.create_line`) and then spoken to over its control socket
(`control.Control`), which costs a millisecond where each call of the command line costs a process of 30 MB:

    create ─► created ─start─► runs ─pause─► stands still ─unpause─► runs ─► ...
                 └──restore──► runs ─checkpoint─► goes on as it was

Facts about this program that are not in its documentation are of release 20240729, which bookworm-backports and
Debian 13 have.
"""
