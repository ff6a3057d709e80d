#!/usr/bin/env bash
# many.sh guests|selftest|counted|debug CPUS: several guests, one of them with two virtual CPUs, share the machine's CPUs; the memory
# manager is sound under all CPUs' load, on CPUs that run at the same time and on CPUs that run one after the other, where one
# that waits for another has to let it.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

config=$scratch/config.dts
cat >"$config" <<END
/dts-v1/;
/ {
  hypervisor {
    compatible = "cadastre,hypervisor";
    linux0 {
      compatible = "cadastre,guest";
      memory = /bits/ 64 <0x8000000>;
      cpus = <2>;
      kernel { file = "$root/build/guests/linux/zImage"; bootargs = "console=ttyAMA0 quiet"; };
      initrd { file = "$root/build/guests/linux/initramfs.cpio.gz"; };
    };
    bare0 {
      compatible = "cadastre,guest";
      memory = /bits/ 64 <0x2000000>;
      cpus = <1>;
      kernel { file = "$root/build/armv7-release/guest/bare-metal.bin"; };
    };
  };
};
END

case $1 in
  guests)
    expect 0 run --batch --smp "$2" --config "$config"
    expect_line "^cadastre: cpus: $2 up" '^\[linux0\] linux-guest: ok$' '^\[bare0\] bare-metal-guest: ok$' \
      '^cadastre: audit: ok .* 0 guests'
    ;;
  selftest | counted)
    counted=()
    if [[ $1 == counted ]]; then counted=(--icount); fi
    expect 0 run --batch --smp "$2" "${counted[@]}" --config "$root/dts/bare-metal.dts" --append 'cma=64M selftest=mm'
    expect_line '^cadastre: cma: cma .* 64 MiB' '^cadastre: selftest: mm: ok 100000[0-9] operations' \
      '^\[bare0\] bare-metal-guest: ok$'
    (($(grep -c '^cadastre: audit: ok' "$output") == 2)) || fail "not two audits that are ok"
    ;;
  debug)
    # Nothing that the memory manager does itself, from boot to the end of its guests, looks wrong to its checks.
    expect 0 run --batch --timeout 300 --smp "$2" --config "$config" --append 'cma=64M debug=slab,poison,history'
    expect_line '^cadastre: memory: debug: poison history slab' '^\[linux0\] linux-guest: ok$' \
      '^\[bare0\] bare-metal-guest: ok$' '^cadastre: audit: ok .* 0 guests'
    if grep -E '^cadastre: (pages|slab|percpu|vmalloc): ' "$output"; then fail "a check found something"; fi
    ;;
  *) fail "no case '$1'" ;;
esac
