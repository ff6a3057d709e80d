# What a run has come to, told from the console's lines. Source it after common.sh.
# shellcheck shell=bash
#
# The hypervisor's own lines begin with `cadastre: `; in batch mode a guest's lines begin with `[name] `, so no guest can
# speak for the hypervisor. `cadastre: machine: off` is its last one, and ends nothing: QEMU does, when it exits. On a machine
# whose firmware cannot switch it off the last one says so, and the run ends there. How long any of it takes does not matter.

readonly status_guest_failed=1 status_refused=2 status_panic=3 status_timeout=124

refused='' failed='' panicked='' audited='' off='' stays_on=''
declare -A powered_off=()

judge() {
  case $1 in
    'cadastre: refused: '*) refused=yes ;;
    'cadastre: panic: '* | 'cadastre: audit: failed'*) panicked=yes ;;
    'cadastre: audit: ok'*) audited=yes ;;
    'cadastre: machine: off') off=yes ;;
    'cadastre: machine: stays on'*) off=yes stays_on=yes ;;
    'cadastre: guest '*': failed'*) failed=yes ;;
    'cadastre: guest '*': powered off'*)
      local name=${1#cadastre: guest }
      powered_off[${name%%:*}]=yes
      ;;
    *-guest:\ FAILED:*) failed=yes ;;
  esac
}

# verdict QEMU-STATUS GUEST...: the status that the run ends with. QEMU's is timeout(1)'s: 124, or 137 if it had to kill.
verdict() {
  local qemu_status=$1 guest
  shift
  if [[ $panicked ]]; then return $status_panic; fi
  if [[ $refused ]]; then return $status_refused; fi
  if ((qemu_status == 124 || qemu_status == 137)); then return $status_timeout; fi
  if [[ $failed ]]; then return $status_guest_failed; fi
  if ((qemu_status != 0)) || [[ ! $audited || ! $off ]]; then return $status_panic; fi
  for guest; do
    if [[ ! ${powered_off[$guest]-} ]]; then return $status_panic; fi
  done
}

# run_batch SECONDS COMMAND...: runs QEMU without a terminal; prints and judges each line as it comes. The status is
# QEMU's, or timeout's. Nothing is left running, whichever of the three is killed.
run_batch() {
  local seconds=$1 lines line status=0
  shift
  exec {lines}< <(exec setpriv --pdeathsig TERM timeout --foreground -k 5 "$seconds" "$@" </dev/null)
  child=$!
  while IFS= read -r line <&"$lines" || [[ $line ]]; do
    line=${line%$'\r'}
    printf '%s\n' "$line"
    judge "$line"
    if [[ $stays_on ]]; then kill "$child"; fi
  done
  exec {lines}<&-
  wait "$child" || status=$?
  if [[ $stays_on ]]; then status=0; fi
  child=
  return $status
}

# run_interactive SECONDS LOG COMMAND...: the same with the terminal left to QEMU, which writes what the console showed
# to LOG as well.
run_interactive() {
  local seconds=$1 log=$2 line status=0
  shift 2
  setpriv --pdeathsig TERM timeout --foreground -k 5 "$seconds" "$@" <&0 &
  child=$!
  wait "$child" || status=$?
  child=
  while IFS= read -r line || [[ $line ]]; do judge "${line%$'\r'}"; done <"$log"
  return $status
}
