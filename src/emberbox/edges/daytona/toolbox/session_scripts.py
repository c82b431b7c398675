"""What keeps sessions in a sandbox: a shell for each, and files of what its commands were, wrote and ended with.

All of it is in the guest, so that sessions go on after a stop, are in forks, and the server keeps nothing. A directory
for each session has `pid`, of the shell; `queue`, from which it reads the names of commands; `list`, of all of them;
`ready`, when the shell reads; and `ended`, when it has ended. One for each command has `text`, `out`, `err`, and `code`
when it has ended; `in` where it takes input.
"""

from __future__ import annotations

from typing import Final

FOREIGN, SESSION_THERE, NO_SESSION, NO_COMMAND, ENDED, NO_INPUT, COMPLETED = 40, 41, 42, 43, 44, 45, 46
"""Exit codes of the scripts."""

SHELL: Final = """
__s=$1
exec 3<>"$__s/queue"
trap '__r=$?; : >"$__s/ended"; [ -z "$__c" ] || [ -e "$__c/code" ] || echo "$__r" >"$__c/code"' EXIT
__c=
: >"$__s/ready"
while IFS= read -r __n <&3; do
    __c=$__s/$__n
    if [ -p "$__c/in" ]; then exec 4<>"$__c/in"; else exec 4</dev/null; fi
    { command eval "$(cat "$__c/text")"; } <&4 >"$__c/out" 2>"$__c/err" 3<&- 4<&-
    echo "$?" >"$__c/code.new"
    exec 4<&-
    mv "$__c/code.new" "$__c/code"
    __c=
done
"""
"""The shell of a session. `command` lets a mistake of syntax end the command alone, not the shell."""

_SESSION: Final = f"""
d=$(printf "$1" "$(id -u)")
mkdir -p -m 700 "$d" && [ -O "$d" ] || exit {FOREIGN}
s=$d/$2
alive() {{ [ ! -e "$s/ended" ] && kill -0 "$(cat "$s/pid")" 2>/dev/null; }}
"""
_COMMAND: Final = f"""{_SESSION}
[ -d "$s" ] || exit {NO_SESSION}
c=$s/$3
[ -f "$c/text" ] || exit {NO_COMMAND}
"""
_WAIT: Final = f"""
nap=0.02
while [ ! -e "$c/code" ]; do
    alive || {{ sleep 0.2 || sleep 1; [ -e "$c/code" ] || exit {ENDED}; }}
    sleep $nap || sleep 1
    nap=0.1
done
"""
_TELL: Final = """
cat "$c/code" 2>/dev/null || echo
n=$(stat -c %s "$c/out")
echo "$n"
head -c "$n" "$c/out"
cat "$c/err"
"""

CREATE: Final = f"""{_SESSION}
command -v setsid >/dev/null || {{ echo "the image has no setsid, which sessions need" >&2; exit 1; }}
mkdir "$s" 2>/dev/null || exit {SESSION_THERE}
mkfifo -m 600 "$s/queue" || exit 1
: >"$s/list"
shell=sh
if command -v bash >/dev/null; then shell=bash; fi
setsid "$shell" -c "$3" "$shell" "$s" </dev/null >/dev/null 2>&1 &
echo $! >"$s/pid"
while [ ! -e "$s/ready" ]; do
    kill -0 $! 2>/dev/null || exit 1
    sleep 0.02 || sleep 1
done
"""
"""Begin a session: directory, name, the shell's script. It is in a process group of its own before this one ends."""

BEGIN: Final = f"""{_SESSION}
[ -d "$s" ] || exit {NO_SESSION}
alive || exit {ENDED}
c=$s/$3
mkdir "$c" && cat >"$c/text" && : >"$c/out" && : >"$c/err" || exit 1
[ -z "$4" ] || mkfifo -m 600 "$c/in" || exit 1
echo "$3" >>"$s/list"
echo "$3" 1<>"$s/queue"
"""
"""Let a session run the command that comes as input: directory, session, command, something where it takes input."""

WAIT: Final = f"{_COMMAND}{_WAIT}{_TELL}"
"""Wait for a command: directory, session, command. Tells exit code, length of the output, output, error output."""

TELL: Final = f"{_COMMAND}{_TELL}"
"""The same without waiting; the first line is empty where it has not ended."""

CHECK: Final = f"""{_COMMAND}
exit 0
"""
"""See that there is a command: directory, session, command."""

LIST: Final = f"""{_SESSION}
for s in "$d"/${{2:-*}}; do
    [ -f "$s/list" ] || continue
    printf 'session\\0%s\\0' "${{s##*/}}"
    while IFS= read -r n; do
        printf 'command\\0%s\\0%s\\0' "$n" "$(cat "$s/$n/code" 2>/dev/null)"
        cat "$s/$n/text"
        printf '\\0'
    done <"$s/list"
done
"""
"""Tell of all sessions, or of one: directory, session."""

DELETE: Final = f"""{_SESSION}
[ -d "$s" ] || exit {NO_SESSION}
p=$(cat "$s/pid") && {{ alive || ! kill -0 "$p" 2>/dev/null; }} && kill -s KILL -- "-$p" 2>/dev/null
rm -rf "$s"
"""
"""End a session with all that runs in it: directory, session. Where its shell has ended, a process of its number is
another one; as long as something is left of its group there is none."""

INPUT: Final = f"""{_COMMAND}
[ ! -e "$c/code" ] || exit {COMPLETED}
[ -p "$c/in" ] || exit {NO_INPUT}
exec cat 1<>"$c/in"
"""
"""Pass input to a command: directory, session, command."""

FOLLOW: Final = f"""{_COMMAND}
pass() {{ tail -c "+$(($2 + 1))" "$1" | head -c "$(($3 - $2))"; }}
o=0; e=0
while :; do
    last=
    if [ -e "$c/code" ] || ! alive; then last=1; fi
    n=$(stat -c %s "$c/out"); [ "$n" -le "$o" ] || pass "$c/out" "$o" "$n"; o=$n
    n=$(stat -c %s "$c/err"); [ "$n" -le "$e" ] || pass "$c/err" "$e" "$n" >&2; e=$n
    [ -z "$last" ] || exit 0
    sleep 0.2 || sleep 1
done
"""
"""Write what a command writes, as it does, until it has ended: directory, session, command."""
