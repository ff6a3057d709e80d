# What every script shares. Source it; it leaves the script in the root of the tree.
# shellcheck shell=bash

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd)

say() { printf '%s: %s\n' "$(basename -- "$0")" "$*" >&2; }

# die STATUS MESSAGE...
die() {
  local status=$1
  shift
  say "$*"
  exit "$status"
}

# A scratch directory that goes away with the script, however it ends: `scratch` names it. What must be ended with the
# script as well is started with its process id in `child`.
child=
make_scratch() {
  scratch=$(mktemp -d "${TMPDIR:-/tmp}/cadastre.XXXXXX") || exit $status_not_ready
  trap clean_up EXIT
  trap 'exit 129' HUP
  trap 'exit 130' INT
  trap 'exit 143' TERM
}

clean_up() {
  if [[ -n $child ]]; then kill "$child" 2>/dev/null || true; fi
  rm -rf -- "$scratch"
}

# locked NAME COMMAND...: one process at a time, for what several scripts may do at once.
locked() {
  mkdir -p "$root/build"
  (
    flock 9
    "${@:2}" 9>&-
  ) 9>"$root/build/.$1.lock"
}

# What scripts end with that could not begin; the lower numbers have their meaning in run.sh.
readonly status_not_ready=4

# build PRESET [TARGET...]: configures once, and again when presets or toolchains have changed, then builds what changed, of
# all or of these; silent unless it fails.
build() {
  local log=$root/build/$1.log
  mkdir -p "$root/build"
  if locked "$1" build_quietly "$@" >"$log" 2>&1; then return; fi
  cat -- "$log" >&2
  die $status_not_ready "the build of preset $1 failed (see above, or build/$1.log)"
}

build_quietly() {
  cd -- "$root" || return
  # What a toolchain file says of flags is remembered by the build, which would not notice another answer.
  if [[ ! -e build/$1/build.ninja || $(find CMakePresets.json cmake -newer "build/$1/CMakeCache.txt") ]]; then
    cmake --fresh --preset "$1" --log-level=WARNING || return
  fi
  ninja -C "build/$1" -j2 --quiet "${@:2}"
}
