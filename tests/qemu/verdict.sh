#!/usr/bin/env bash
# What a run has come to is told from what it says and how it ends, whenever it says that: a program that speaks as QEMU does takes
# its place.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

readonly a_panic='cadastre: panic: CHECK failed' an_end='cadastre: guest it: powered off' an_audit='cadastre: audit: ok' \
  the_off='cadastre: machine: off'

# is STATUS SECONDS PROGRAM: what a run of one guest, `it`, comes to that is given so many seconds.
is() {
  local status=0
  (
    # shellcheck source=scripts/lib/verdict.sh
    . "$root/scripts/lib/verdict.sh"
    run_batch "$2" bash -c "$3" && run=0 || run=$?
    verdict "$run" it
  ) >"$output" || status=$?
  ((status == $1)) || { cat -- "$output"; fail "status $status instead of $1 for: $3"; }
}

says() { printf 'echo "%s"; ' "$@"; }

# All went well: every guest has ended, the books are right, the machine is off.
is 0 60 "$(says "$an_end" "$an_audit" "$the_off")"
is 0 60 "$(says "$an_end" "$an_audit")printf '$the_off'"
is 3 60 "$(says "$an_end" "$an_audit")"
is 3 60 "$(says "$an_end" "$the_off")"
is 3 60 "$(says "$an_audit" "$the_off")"
is 3 60 "$(says "$an_end" "$an_audit" "$the_off")exit 1"
# The first audit is a selftest's. What comes after it may take its time, and counts.
is 0 60 "$(says "$an_audit")sleep 12; $(says "$an_end" "$an_audit" "$the_off")sleep 1"
is 3 60 "$(says "$an_audit")sleep 1; $(says "$a_panic" "$the_off")"
is 3 60 "$(says "$an_audit" "$the_off")"
# Who speaks is known by where the line begins.
is 3 60 "$(says "[it] $an_end" "[it] $an_audit" "[it] $the_off")"
is 0 60 "$(says "[it] $a_panic" "$an_end" "$an_audit" "$the_off")"
# A guest that failed, what was refused, a panic: each tells more than that the run had to be ended.
is 1 60 "$(says '[it] linux-guest: FAILED: no' "$an_end" "$an_audit" "$the_off")"
is 2 60 "$(says 'cadastre: refused: no' "$the_off")"
is 2 1 "$(says 'cadastre: refused: no')sleep 60"
is 3 1 "$(says "$a_panic")sleep 60"
is 124 1 "$(says "$an_end" "$an_audit" "$the_off")sleep 60"
is 124 1 'sleep 60'
