#!/bin/sh
# Submits one task to a spool and waits for its end, with the shell and GNU coreutils alone.
# usage: spool-submit.sh SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]
# exit:  0 done, 1 failed, 2 cancelled, 64 usage, 65 refused, 74 I/O error, 75 not over in time
set -u
umask 077                                       # what is submitted is nobody else's to read
LC_ALL=C; export LC_ALL                         # A-Z means these 26 letters; bytes pass as they are
quit() { printf 'spool-submit: %s\n' "$2" >&2; exit "$1"; }

[ $# -eq 3 ] || [ $# -eq 4 ] || quit 64 'usage: spool-submit.sh SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]'
spool=$1 task=$2 args=$3 timeout=${4-30}
case $task in '' | [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) quit 64 'TASK is letters, digits and . _ -' ;; esac
[ ${#task} -le 64 ] || quit 64 'TASK is at most 64 characters'
case $timeout in '' | *[!0-9]* | ???????*) quit 64 'TIMEOUT_SECONDS is a whole number below 1000000' ;; esac
case $spool in '') quit 64 'SPOOL_DIR is empty' ;; [!/]*) spool=./$spool ;; esac  # - is a name, too
cd "$spool" || quit 64 "no such directory: $spool"                      # from here on, paths are the spool's
[ "$(head -n 1 format 2>/dev/null)" = 'spool 1' ] || quit 64 "not a spool of format 1: $spool"

# 1. The id, a UUIDv7: 48 bits of milliseconds, version 7, 12 random bits, variant 10, 62 random bits.
new_id() {                                      # MILLISECONDS, then five random numbers of 16 bits
    [ $# -eq 6 ] && printf '%012x7%03x%04x%04x%04x%04x' "$1" $(($2 & 0xfff)) $(($3 & 0x3fff | 0x8000)) "$4" "$5" "$6"
}
now=$(date -u '+%s%3N %Y-%m-%d') || quit 74 'cannot read the clock'
day=${now#* }                                   # attempt records are filed under the date inside the id
id=$(new_id "${now% *}" $(od -An -N10 -tu2 /dev/urandom)) || quit 74 'cannot make an id'

# 2. Write the action under a hidden name and sync it. What a crash leaves in tmp/ is ignored and aged out.
set -C                                          # > makes a new file or fails
printf '{"id":"%s","task":"%s","args":%s}\n' "$id" "$task" "$args" >"tmp/.$id" || quit 74 "cannot write tmp/.$id"
sync "tmp/.$id" || quit 74 "cannot sync tmp/.$id"

# 3. Rename: now, and complete, it is visible. Sync the name too; a shared incoming/ may not let us open it.
mv "tmp/.$id" "incoming/$id.json" || quit 74 "cannot rename to incoming/$id.json"
[ ! -r incoming ] || sync incoming || quit 74 'cannot sync incoming'
printf '%s\n' "$id" || quit 74 'cannot write the id to stdout'

# 4. Look for the id in the terminal states, where it stands between commas, and among what was refused.
print_newest_record() {                         # attempts/DATE/ID.N.json with the highest N: it may skip
    record=$(cat "$(printf '%s\n' "attempts/$day/$id".*.json | sort -t . -k 2n | tail -n 1)") && printf '%s\n' "$record"
}
pause=5 waited=0                                # milliseconds
while :; do
    for dir in done failed cancelled rejected; do
        [ ! -e $dir ] || { [ -r $dir ] && [ -x $dir ]; } || quit 74 "cannot read $dir"
    done
    set -- done/*/*,"$id",*;      [ ! -e "$1" ] || { print_newest_record || exit 74; exit 0; }
    set -- failed/*/*,"$id",*;    [ ! -e "$1" ] || exit 1
    set -- cancelled/*/*,"$id",*; [ ! -e "$1" ] || exit 2
    set -- rejected/*/"$id"*;     [ ! -e "$1" ] || { cat rejected/*/"$id"*.reason.json >&2; exit 65; }
    [ "$waited" -lt "${timeout}000" ] || quit 75 "not over after $timeout s; the task goes on"
    sleep "0.$(printf %03d "$pause")"
    waited=$((waited + pause)) pause=$((pause < 100 ? pause * 2 : 200))
done
