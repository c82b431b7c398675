#!/bin/sh
# Harmless, and behaves like a bomb: it starts many processes, and does not end by itself.
for number in $(seq 30); do
    sleep 600 &
done
wait
