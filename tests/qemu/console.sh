#!/usr/bin/env bash
# console.sh MACHINE: a person at the terminal: the guest's shell echoes and answers what is typed, Ctrl-C reaches the guest, `poweroff` ends
# the run with status 0; and so does leaving with Ctrl-a x.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

machine=$1

# shellcheck source=tests/qemu/terminal.sh
. "$(dirname -- "$0")/terminal.sh"
run_linux() { start "$root/scripts/run.sh --timeout $patience --machine $machine"; }

run_linux
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
run_linux
wait_for 'Linux version'
printf '\001x' >&"$keyboard"
finish
