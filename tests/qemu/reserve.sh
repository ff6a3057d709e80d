#!/usr/bin/env bash
# reserve.sh CASE: memory that is reserved for two purposes is refused, in one line with both and where they are, and nothing
# starts; what firmware says twice is not.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

# boot STATUS RESERVED-MEMORY RUN-OPTION...: a machine of 256 MiB with these children of /reserved-memory, and one guest. Its
# image is at 0x4001'0000, the guest's kernel at 0x4100'0000, its device tree at 0x4800'0000.
boot() {
  cat >"$scratch/config.dts" <<END
/dts-v1/;
${memreserve-}
/ {
  reserved-memory {
    #address-cells = <2>;
    #size-cells = <2>;
    ranges;
    $2
  };
  hypervisor {
    compatible = "cadastre,hypervisor";
    it {
      compatible = "cadastre,guest";
      memory = /bits/ 64 <0x1000000>;
      kernel { file = "$root/build/armv7-release/guest/bare-metal.bin"; };
    };
  };
};
END
  expect "$1" run --batch --timeout 60 --memory 256M --config "$scratch/config.dts" "${@:3}"
}

# pool ADDRESS SIZE
pool() { echo "pool@$1 { compatible = \"shared-dma-pool\"; reusable; reg = <0 0x$1 0 0x$2>; };"; }

# refused NAME NODES RUN-OPTION...: the pool shares memory with what has that name.
refused() {
  boot 2 "${@:2}"
  expect_one_reason "/reserved-memory/pool@4[0-9a-f]*: 0x4[0-9a-f]* to 0x4[0-9a-f]* overlaps $1 at 0x4[0-9a-f]* to 0x4"
  ! grep -qE 'cma: pool|^\[it\]' "$output" || fail "something was started"
}

case $1 in
  pool-over-image) refused "the hypervisor's image" "$(pool 40000000 800000)" ;;
  pool-over-tree) refused 'the device tree' "$(pool 48000000 200000)" ;;
  pool-over-kernel) refused /hypervisor/it/kernel "$(pool 40800000 1000000)" ;;
  pool-over-no-map)
    refused /reserved-memory/firmware@4a100000 \
      "firmware@4a100000 { no-map; reg = <0 0x4a100000 0 0x1000>; }; $(pool 4a000000 400000)"
    ;;
  pools-overlap)
    refused /reserved-memory/pool@4a000000 "$(pool 4a000000 400000) $(pool 4a200000 400000)"
    ;;
  pool-outside-ram)
    boot 2 "$(pool 90000000 200000)"
    expect_one_reason '/reserved-memory/pool@90000000: 0x90000000 to 0x90200000 is not all in RAM'
    ;;
  word-over-image)
    boot 2 '' --append 'cma=8M@0x40000000'
    expect_one_reason "the command line's cma=: 0x40000000 to 0x40800000 overlaps the hypervisor's image at 0x40010000"
    ;;
  repeated)
    # As boot loaders do: what the tree reserves, and the tree.
    memreserve='/memreserve/ 0x48000000 0x10000; /memreserve/ 0x4a100000 0x1000;'
    boot 0 "$(pool 4b000000 400000) firmware@4a100000 { no-map; reg = <0 0x4a100000 0 0x1000>; };"
    expect_line '^cadastre: cma: pool@4b000000 0x4b000000 to 0x4b400000, 4 MiB' '^cadastre: guest it: powered off'
    ;;
  across-linear-map)
    # RAM ends a little above what the linear map reaches: a pool lies on one side of it.
    expect 0 run --batch --timeout 120 --memory 2080M --config "$root/dts/bare-metal.dts" --append 'cma=64M'
    expect_line '^cadastre: cma: cma 0xbc000000 to 0xc0000000, 64 MiB'
    ;;
  *) fail "no such case: $1" ;;
esac
