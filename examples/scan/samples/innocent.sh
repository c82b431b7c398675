#!/bin/sh
# Harmless, and looks it: reads a file and writes a result beside it.
wc -l < /etc/passwd > /tmp/lines
