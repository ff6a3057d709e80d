#!/usr/bin/env bash
# Sets up what is missing, builds everything and runs every test; or, with --quick, a few, and with --long the random ones for
# longer.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"
cd -- "$root"

help() {
  cat <<'END'
usage: scripts/test.sh [ctest option...]
       scripts/test.sh --quick [ctest option...]
       scripts/test.sh --long [OPERATIONS]

Without options every test: unit tests natively under ASan and UBSan, those with threads under TSan, all as 32-bit ARM code,
fuzz targets for a moment, boots in QEMU, formatting and clang-tidy. One ctest runs them all and closes with its summary; its
options choose, for example: scripts/test.sh -L qemu, scripts/test.sh -R unit.

  --quick              what most changes break first, in less than eight minutes from a clean clone on two idle processors: unit
                       tests natively with 100,000 random operations each, a boot of each kind, formatting and shell scripts
  --long [OPERATIONS]  OPERATIONS (default: 10000000) of each test of random operations, stage 2 under its oracle among
                       them, without sanitizers, on all processors with a seed for each; prints seeds and times
  --help               this text

In the environment:
  CADASTRE_SEED        what random tests begin with (default: fresh, and printed)
  CADASTRE_OPERATIONS  how many operations each of them does (default: a million natively, less on the emulated CPU)
END
}

long() {
  local operations=$1 processes seed each index status=0
  local -a children=()
  processes=$(nproc)
  each=$(((operations + processes - 1) / processes))
  seed=${CADASTRE_SEED:-$(od -An -N4 -tu4 /dev/urandom | tr -d ' ')}
  say "building long"
  build long unit_tests
  make_scratch
  for ((index = 0; index < processes; ++index)); do
    say "$each operations of each random test with CADASTRE_SEED=$((seed + index))"
    CADASTRE_SEED=$((seed + index)) CADASTRE_OPERATIONS=$each build/long/tests/unit/unit_tests --duration=true \
      >"$scratch/$index" 2>&1 &
    children+=($!)
  done
  for ((index = 0; index < processes; ++index)); do
    wait "${children[index]}" || status=1
    cat -- "$scratch/$index"
  done
  return $status
}

# A boot of each kind: the small guest and Linux to their ends, beside a hostile one, with a plan that is refused.
readonly quick_boots='verdict|bare-metal.cortex-a15|linux.cortex-a15.1G|hostile.spinner|guests.(fails|resets|more-memory.*)|dtbs.undamaged'

quick() {
  "$root/scripts/setup.sh"
  say "building armv7-release"
  build armv7-release
  say "building host"
  build host unit_tests
  cat >build/CTestTestfile.cmake <<END
subdirs(host/tests/unit armv7-release)
add_test(lint.format "$root/scripts/lint.sh" format)
add_test(lint.shell "$root/scripts/lint.sh" shell)
END
  export CADASTRE_NO_BUILD=1 CADASTRE_OPERATIONS=${CADASTRE_OPERATIONS:-100000}
  exec ctest --test-dir build -j2 --output-on-failure --no-tests=error -R "^(unit\..*|lint\..*|qemu\.($quick_boots))\$" "$@"
}

case ${1-} in
  --help) help; exit ;;
  --quick) quick "${@:2}" ;;
  --long) long "${2:-10000000}"; exit ;;
esac

"$root/scripts/setup.sh" linux-lpae
"$root/scripts/setup.sh" u-boot
for preset in armv7-release host armhf; do
  say "building $preset"
  build "$preset"
done
say "building tsan"
build tsan unit_tests

# The builds' own tests, and the checks of the sources. clang-tidy uses both processors.
cat >build/CTestTestfile.cmake <<END
subdirs(host armhf tsan armv7-release)
add_test(lint.format "$root/scripts/lint.sh" format)
add_test(lint.shell "$root/scripts/lint.sh" shell)
add_test(lint.tidy "$root/scripts/lint.sh" tidy)
set_tests_properties(lint.format lint.shell lint.tidy PROPERTIES LABELS lint)
set_tests_properties(lint.tidy PROPERTIES PROCESSORS 2 TIMEOUT 1200)
END

export CADASTRE_NO_BUILD=1
exec ctest --test-dir build -j2 --output-on-failure --no-tests=error "$@"
