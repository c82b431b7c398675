#!/bin/sh
# Answers one hook: POST /aws/lambda-microvms/runtime/v1/NAME

read -r _ path _
name=${path##*/}
length=0
while read -r key value && [ "$key" != "$(printf '\r')" ]; do
    case $key in [Cc]ontent-[Ll]ength:) length=$(echo "$value" | tr -d '\r') ;; esac
done
body=$(head -c "$length")

case $name in
    run) # the microVM has been launched from the snapshot: from here on it is alone
        echo "$body" | sed -n 's/.*"microvmId": *"\([^"]*\)".*/\1/p' > /state/microvm
        od -An -N4 -tx4 /dev/urandom | tr -d ' ' > /state/launch
        ;;
    ready) ;;     # it may be snapshot now
    suspend) ;;   # it is about to be suspended: write down what must not be lost
    resume) ;;    # it goes on, perhaps hours later
    terminate) ;; # it ends
    *)
        printf 'HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n'
        exit
        ;;
esac
echo "$name" >> /state/hooks
printf 'HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n'
