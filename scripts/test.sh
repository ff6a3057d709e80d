#!/usr/bin/env bash
# Sets up what is missing, builds everything and runs every test: unit tests natively under ASan and UBSan and as 32-bit
# ARM code, fuzz targets for a moment, boots in QEMU, formatting and clang-tidy. One ctest runs them all and closes with its summary.
#
# usage: scripts/test.sh [ctest option...]     for example: scripts/test.sh -L qemu, scripts/test.sh -R unit
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"
cd -- "$root"

"$root/scripts/setup.sh" linux-lpae
for preset in armv7-release host armhf; do
  say "building $preset"
  build "$preset"
done

# The builds' own tests, and the checks of the sources. clang-tidy uses both processors.
cat >build/CTestTestfile.cmake <<END
subdirs(host armhf armv7-release)
add_test(lint.format "$root/scripts/lint.sh" format)
add_test(lint.shell "$root/scripts/lint.sh" shell)
add_test(lint.tidy "$root/scripts/lint.sh" tidy)
set_tests_properties(lint.format lint.shell lint.tidy PROPERTIES LABELS lint)
set_tests_properties(lint.tidy PROPERTIES PROCESSORS 2 TIMEOUT 1200)
END

export CADASTRE_NO_BUILD=1
exec ctest --test-dir build -j2 --output-on-failure --no-tests=error "$@"
