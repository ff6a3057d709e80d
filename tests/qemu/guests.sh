#!/usr/bin/env bash
# guests.sh CASE: a configuration that cannot be, or a guest that does not end well, is told by status and by a line that
# names the node.
set -euo pipefail
# shellcheck source=tests/qemu/lib.sh
. "$(dirname -- "$0")/lib.sh"

bare_metal=$root/build/armv7-release/guest/bare-metal.bin
linux=$root/build/guests/linux/zImage
config=$scratch/config.dts

# configure MEMORY KERNEL [BOOTARGS]: one guest, `it`.
configure() {
  cat >"$config" <<END
/dts-v1/;
/ {
  hypervisor {
    compatible = "cadastre,hypervisor";
    it {
      compatible = "cadastre,guest";
      memory = /bits/ 64 <$1>;
      cpus = <1>;
      kernel { file = "$2"; bootargs = "${3-}"; };
    };
  };
};
END
}

run_config() { run --batch --config "$config" "$@"; }

case $1 in
  fails)
    configure 0x4000000 "$bare_metal" fail
    expect 1 run_config
    expect_line '^\[it\] bare-metal-guest: FAILED: it was told to$' '^cadastre: guest it: powered off'
    ;;
  hangs)
    configure 0x4000000 "$bare_metal" hang
    expect 124 run --batch --timeout 5 --config "$config"
    ;;
  resets)
    # Each time from the beginning, in RAM that is as fresh as the first time, until the limit is reached.
    configure 0x4000000 "$bare_metal" reset
    expect 1 run_config
    expect_line '^cadastre: guest it: failed: .*reset'
    expect_line '^cadastre: guest it: vCPU 0: pc 0x4001[0-9a-f]* ' '^cadastre: guest it:   #0 0x4001'
    (($(grep -c '^\[it\] bare-metal-guest: reset$' "$output") == 4)) || fail "the guest did not reset 3 times and once more"
    ;;
  panics)
    # What a kernel was doing when it reset the machine: its words on the stack lead to `panic`, which is where the same kernel
    # has it when all is well.
    sed -e 's/console=ttyAMA0/& quiet cadastre.symbol=panic/' -e "s@\.\./build@$root/build@" "$root/dts/one-linux.dts" >"$config"
    expect 0 run_config
    read -r first past < <(sed -n 's/^\[linux0\] linux-guest: panic is at \(0x[0-9a-f]*\) to \(0x[0-9a-f]*\)$/\1 \2/p' "$output") ||
      fail "the kernel does not say where its panic() is"
    configure 0x8000000 "$linux" 'console=ttyAMA0 rdinit=/nowhere root=/dev/nowhere panic=-1'
    expect 1 run_config --append reset-limit=0
    expect_line '^cadastre: guest it: vCPU 0: pc 0xc[0-9a-f]* .* svc ARM$' '^cadastre: guest it:   level 1: descriptor 0x' \
      '^cadastre: guest it:   pc is at 0x4[0-9a-f]* \(physical 0x'
    in_panic=
    while read -r address; do
      if ((address > first && address <= past)); then in_panic=yes; fi
    done < <(sed -n 's/^cadastre: guest it:   perhaps //p' "$output")
    [[ $in_panic ]] || fail "nothing on the stack is of panic()"
    ;;
  ram-above-4-gib)
    # Below 4 GiB the machine has 3 GiB of RAM, and the hypervisor needs some of that itself.
    configure 0xc0000000 "$bare_metal"
    expect 0 run --batch --memory 6G --config "$config"
    expect_line '^\[it\] bare-metal-guest: the device tree has 3072 MiB of RAM' '^\[it\] bare-metal-guest: ok$'
    ;;
  left-out)
    configure 0x4000000 "$bare_metal"
    dtc -q -I dts -O dtb -o "$scratch/config.dtb" "$config"
    fdtput -p -t s "$scratch/config.dtb" /hypervisor/other status disabled
    fdtput -t s "$scratch/config.dtb" /hypervisor/other compatible cadastre,guest
    dtc -q -I dtb -O dts -o "$config" "$scratch/config.dtb"
    expect 0 run_config
    expect_line '^cadastre: guest it: powered off'
    if grep -q other "$output"; then fail "the guest that is left out is mentioned"; fi
    ;;
  none)
    echo '/dts-v1/; / { };' >"$config"
    expect 2 run_config
    expect_one_reason '/hypervisor: no guest'
    ;;
  more-memory-than-there-is)
    configure 0x80000000 "$bare_metal"
    expect 2 run_config --memory 1G
    expect_one_reason '/hypervisor/it'
    ;;
  image-larger-than-memory)
    configure 0x400000 "$linux"
    expect 2 run_config
    expect_one_reason '/hypervisor/it'
    ;;
  kernel-is-no-image)
    # An ELF file, but of another machine.
    printf '\177ELF\2\1\1\0\0\0\0\0\0\0\0\0\2\0\76\0\1\0\0\0%01024d' 0 >"$scratch/kernel"
    configure 0x4000000 "$scratch/kernel"
    expect 2 run_config
    expect_one_reason '/hypervisor/it/kernel'
    ;;
  kernel-is-cut-short)
    head -c 100000 "$linux" >"$scratch/kernel"
    configure 0x8000000 "$scratch/kernel"
    expect 2 run_config
    expect_one_reason '/hypervisor/it/kernel'
    ;;
  kernel-is-missing)
    configure 0x4000000 "nowhere/zImage"
    expect 2 run_config
    expect_one_reason '/hypervisor/it/kernel \(.*nowhere/zImage\): no such file'
    ;;
  kernel-is-empty)
    : >"$scratch/kernel"
    configure 0x4000000 "$scratch/kernel"
    expect 2 run_config
    expect_one_reason '/hypervisor/it/kernel \(.*/kernel\): the file is empty'
    ;;
  xen-binding)
    # Where a file is, is told in as many cells as its domain has.
    {
      echo '/dts-v1/; / { chosen {'
      for cells in 1 2; do
        echo "dom$cells { compatible = \"xen,domain\"; memory = <0 0x8000>; cpus = <1>;"
        echo "#address-cells = <$cells>; #size-cells = <$cells>;"
        echo "module@1 { compatible = \"multiboot,kernel\", \"multiboot,module\"; file = \"$bare_metal\"; }; };"
      done
      echo '}; };'
    } >"$config"
    expect 0 run_config
    expect_line '^cadastre: guest dom1: powered off' '^cadastre: guest dom2: powered off'
    ;;
  no-strings)
    # What should be text is a number, where the script looks too: the hypervisor says so, of each.
    configure 0x4000000 "$bare_metal"
    sed -e 's/file = .*"";/file = <1 2>; bootargs = <1>;/' -e 's/^    it {/    bootargs = <1>;\n&/' -i "$config"
    expect 2 run_config
    expect_line '^cadastre: refused: /hypervisor: bootargs must be a string' \
      '^cadastre: refused: /hypervisor/it/kernel: file must be' '^cadastre: refused: /hypervisor/it/kernel: bootargs must be'
    ;;
  bad-command-line)
    configure 0x4000000 "$bare_metal"
    expect 2 run_config --append seed=one
    expect_one_reason "/hypervisor: bootargs: 'seed' "
    ;;
  file-does-not-fit-into-ram)
    truncate -s 1G "$scratch/kernel"
    configure 0x4000000 "$scratch/kernel"
    expect 2 run_config --memory 512M
    expect_one_reason '/hypervisor/it/kernel \(.*/kernel\): .* 512 MiB'
    ;;
  *) fail "no such case: $1" ;;
esac
