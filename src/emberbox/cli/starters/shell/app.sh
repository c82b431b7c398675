#!/bin/sh
# An application in a microVM: answer.sh answers on port 8080, hook.sh hears on port 9000 what becomes of the microVM.

od -An -N4 -tx4 /dev/urandom | tr -d ' ' > /state/started # drawn before the snapshot: all microVMs of the image have it
: > /state/hooks
echo "listening on 8080, hooks on 9000"
socat TCP-LISTEN:9000,bind=127.0.0.1,fork,reuseaddr EXEC:./hook.sh &
exec socat TCP-LISTEN:8080,fork,reuseaddr EXEC:./answer.sh
