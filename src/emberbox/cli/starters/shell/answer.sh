#!/bin/sh
# Answers one request: its head comes on the standard input.

while read -r line && [ "$line" != "$(printf '\r')" ]; do :; done

text=$(
    echo "hello from the microVM $(cat /state/microvm 2>/dev/null)"
    echo "started: $(cat /state/started)"
    echo "random: $(od -An -N4 -tx4 /dev/urandom | tr -d ' ')"
    echo "launch: $(cat /state/launch 2>/dev/null)"
    echo "hooks: $(tr '\n' ' ' < /state/hooks)"
)
printf 'HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s\n' $((${#text} + 1)) "$text"
