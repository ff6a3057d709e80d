#!/usr/bin/env bash
# populate.sh CASE: a guest's RAM is populated when, and in pieces as large as, its configuration says.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

# boot MEMORY MIB POLICY: on a machine with that much RAM, a guest with so many MiB.
boot() {
  cat >"$scratch/config.dts" <<END
/dts-v1/;
/ {
  hypervisor {
    compatible = "cadastre,hypervisor";
    bare0 {
      compatible = "cadastre,guest";
      memory = /bits/ 64 <$(($2 << 20))>;
      $3
      kernel { file = "$root/build/armv7-release/guest/bare-metal.bin"; };
    };
  };
};
END
  expect 0 run --batch --memory "$1" --config "$scratch/config.dts"
  expect_line '^\[bare0\] bare-metal-guest: ok$' '^cadastre: audit: ok '
}
populated='^cadastre: guest bare0: .* MiB populated: mappings of '

case $1 in
  lazy)
    boot 512M 32 'largest-mapping = <0x1000>;'
    ! grep -q "$populated" "$output" || fail "not lazy"
    ;;
  eager)
    boot 512M 33 'populate = "eager";'
    expect_line "${populated}1 GiB: 0, 2 MiB: 16, 4 KiB: 256$"
    ;;
  eager-pages)
    boot 512M 32 'populate = "eager"; largest-mapping = <0x1000>;'
    expect_line "${populated}1 GiB: 0, 2 MiB: 0, 4 KiB: 8192$"
    ;;
  eager-gib)
    expect 0 run --batch --memory 3G --config "$(dirname -- "$0")/eager-gib.dts"
    expect_line '^\[bare0\] bare-metal-guest: ok$' '^cadastre: audit: ok '
    expect_line "${populated}1 GiB: 1, 2 MiB: 4, 4 KiB: 0$"
    ;;
  no-gib)
    # The hypervisor is in the only one.
    boot 1536M 1024 'populate = "eager"; largest-mapping = <0x40000000>;'
    expect_line "${populated}1 GiB: 0, 2 MiB: 512, 4 KiB: 0$"
    ;;
  *) fail "no case '$1'" ;;
esac
