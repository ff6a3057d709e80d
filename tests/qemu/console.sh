#!/usr/bin/env bash
# console.sh MACHINE: a person at the terminal: the guest's shell echoes and answers what is typed, Ctrl-C reaches the guest, `poweroff` ends
# the run with status 0; and so does leaving with Ctrl-a x.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

machine=$1

# On a terminal of its own. Typing goes to `keyboard`, what is shown to the file `screen`.
screen=$scratch/screen
start() {
  : >"$screen"
  mkfifo "$scratch/keys"
  script --quiet --return --command "$root/scripts/run.sh --timeout $patience --machine $machine" /dev/null <"$scratch/keys" >"$screen" 2>&1 &
  child=$!
  exec {keyboard}>"$scratch/keys"
  rm "$scratch/keys"
}

type_line() { printf '%s\r' "$1" >&"$keyboard"; }

# wait_for TEXT: until it is on the screen, after what was waited for before.
seen=0
wait_for() {
  local deadline=$((SECONDS + patience)) rest running=yes
  while ((SECONDS < deadline)) && [[ $running ]]; do
    # What it said last counts too: is it over, before the screen is looked at?
    kill -0 "$child" 2>/dev/null || running=
    rest=$(tail -c +$((seen + 1)) "$screen" | tr -d '\0')
    if [[ $rest == *"$1"* ]]; then
      rest=${rest%%"$1"*}$1
      seen=$((seen + ${#rest}))
      return
    fi
    sleep 0.2
  done
  cat -- "$screen"
  fail "'$1' does not come up on the screen"
}

finish() {
  local status=0
  wait "$child" || status=$?
  child=
  cat -- "$screen"
  exec {keyboard}>&-
  ((status == 0)) || fail "exit status $status instead of 0"
}

LC_ALL=C
start
wait_for 'linux-guest: ok'
wait_for '# '
# shellcheck disable=SC2016 # for the guest's shell
type_line 'echo sum-$((40 + 2))'
# shellcheck disable=SC2016
wait_for 'echo sum-$((40 + 2))' # the terminal's echo
wait_for 'sum-42'
type_line 'sleep 1000'
wait_for 'sleep 1000'
sleep 1
printf '\003' >&"$keyboard"
wait_for '# '
type_line 'echo back-$?'
wait_for 'back-130' # what the shell says of a program that was interrupted
type_line 'poweroff -f'
wait_for 'guest linux0: powered off'
if [[ $machine == vexpress-a15 ]]; then
  wait_for 'machine: stays on' # nobody but the person can end it
  printf '\001x' >&"$keyboard"
fi
finish

if [[ $machine != virt ]]; then exit; fi
start
seen=0
wait_for 'Linux version'
printf '\001x' >&"$keyboard"
finish
