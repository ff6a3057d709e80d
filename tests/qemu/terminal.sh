# A person at a terminal: what is typed, and what is waited for on the screen. Source it after lib.sh.
# shellcheck shell=bash disable=SC2154 # scratch, root, patience are lib.sh's

LC_ALL=C # the screen is bytes

# start COMMAND: on a terminal of its own. Typing goes to `keyboard`, what is shown to the file `screen`.
screen=$scratch/screen
start() {
  : >"$screen"
  seen=0
  mkfifo "$scratch/keys"
  script --quiet --return --command "$1" /dev/null <"$scratch/keys" >"$screen" 2>&1 &
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

# finish: until the command has ended, with status 0.
finish() {
  local status=0
  wait "$child" || status=$?
  child=
  cat -- "$screen"
  exec {keyboard}>&-
  ((status == 0)) || fail "exit status $status instead of 0"
}
