#!/usr/bin/env bash
# Sets up what is missing, builds what changed, and boots the hypervisor with its guests in QEMU.
set -euo pipefail
# shellcheck source=scripts/lib/common.sh
. "$(dirname -- "${BASH_SOURCE[0]}")/lib/common.sh"
. "$root/scripts/lib/config.sh"
. "$root/scripts/lib/verdict.sh"

help() {
  cat <<'END'
usage: scripts/run.sh [option...]

  --config FILE.dts    the guests and their share of the machine (default: dts/one-linux.dts); file names in it count
                       from its own folder
  --machine NAME       virt (default), vexpress-a15 or orangepi-pc: docs/boards.md
  --memory SIZE        the machine's RAM, as 512M or 3G (default: 1G, of which an Orange Pi always has one); with more than 3G
                       it is qemu-system-aarch64's, in which a guest can have more than 3 GiB, unless the CPU is max
  --smp N              the machine's CPUs, 1 to 8 (default: 1; 4 on an Orange Pi, which has no other number)
  --cpu MODEL          cortex-a15 (default), cortex-a7, or max, QEMU's ARMv8 in AArch32 state; on virt
  --numa N             so many NUMA nodes, 1 to 4, which share RAM and CPUs evenly (default: none are described)
  --append "WORDS"     added to the hypervisor's command line (/hypervisor bootargs)
  --timeout SECONDS    end the run after that time
  --icount             the machine's clock counts instructions, 1 ns each: figures repeat
  --gdb                wait for gdb on port 1234 before the first instruction
  --batch              no terminal: each guest's lines begin with [its name], and the Linux guest's init powers off
  --help               this text

Without --batch the terminal is the guest's console: Ctrl-a x ends the machine, Ctrl-a h lists what else there is.

exit status: 0 every guest powered itself off and none reported a failure; 1 a guest failed; 2 the configuration was
refused; 3 the hypervisor panicked, or ended without a word; 4 set-up or build failed; 124 the timeout was reached.
Without --batch, leaving the machine while guests run is no failure.

CADASTRE_NO_BUILD=1 in the environment runs what was built last, for who runs many in a row.
END
}

config=$root/dts/one-linux.dts
board=virt
memory=1G
cpus=
cpu=
nodes=
append=
timeout=0 # none
batch=
extra=()

usage() { die 2 "$* (--help lists the options)"; }

while (($#)); do
  case $1 in
    --help) help; exit ;;
    --batch) batch=yes; shift; continue ;;
    --icount) extra+=(-icount "shift=0,sleep=off"); shift; continue ;;
    --gdb) extra+=(-S -gdb tcp:127.0.0.1:1234); shift; continue ;;
    --config | --machine | --memory | --smp | --cpu | --numa | --append | --timeout) ;;
    *) usage "unknown option '$1'" ;;
  esac
  if (($# < 2)); then usage "$1 wants a value"; fi
  case $1 in
    --config) config=$2 ;;
    --machine) board=$2 ;;
    --memory) memory=$2 ;;
    --smp) cpus=$2 ;;
    --cpu) cpu=$2 ;;
    --numa) nodes=${2:-none} ;;
    --append) append=$2 ;;
    --timeout) timeout=$2 ;;
  esac
  shift 2
done

if [[ $config == -* ]]; then config=./$config; fi # no option of anybody's
ram_bytes=$(bytes "$memory") || usage "--memory '$memory' is not a size like 512M or 3G"
choose_machine "$board" || usage "--machine '$board' is neither virt, vexpress-a15 nor orangepi-pc"
[[ ${cpus:=$([[ $board == orangepi-pc ]] && echo 4 || echo 1)} =~ ^[1-8]$ ]] || usage "--smp '$cpus' is not a number from 1 to 8"
if [[ $board != virt && $cpu ]]; then usage "--cpu is for --machine virt: a board has the CPUs that it has"; fi
if [[ $board != virt && $nodes ]]; then usage "--numa is for --machine virt"; fi
if [[ $board == orangepi-pc && $((ram_bytes)) -ne $((1 << 30)) ]]; then usage "an Orange Pi has 1G of RAM, not '$memory'"; fi
if [[ $board == orangepi-pc && $cpus != 4 ]]; then usage "an Orange Pi has 4 CPUs, not $cpus"; fi
if [[ $board == vexpress-a15 && $cpus -gt 2 ]]; then usage "a vexpress-a15 has 1 or 2 CPUs, not $cpus"; fi
[[ ${cpu:=cortex-a15} =~ ^(cortex-a15|cortex-a7|max)$ ]] || usage "--cpu '$cpu' is neither cortex-a15, cortex-a7 nor max"
[[ ! $nodes || $nodes =~ ^[1-4]$ ]] || usage "--numa '$nodes' is not a number from 1 to 4"
[[ $timeout =~ ^[0-9]+$ ]] || usage "--timeout '$timeout' is not a number of seconds"

if [[ ! ${CADASTRE_NO_BUILD-} ]]; then
  # The LPAE kernel is for the few who name it.
  guest=$(grep -qs build/guests/linux-lpae/ "$config" && echo linux-lpae) || true
  "$root/scripts/setup.sh" ${guest:+"$guest"} || exit $status_not_ready
  build armv7-release
fi

make_scratch
hardware=(-m "$memory" -smp "$cpus" -nic none "${board_arguments[@]}")
if [[ $board == virt ]]; then hardware+=(-cpu "$cpu"); fi
if [[ $nodes ]]; then
  numa_nodes "$ram_bytes" "$cpus" "$nodes"
  hardware+=("${numa_arguments[@]}")
fi
dtb=$scratch/config.dtb
make_dtb "$config" "$dtb" "${hardware[@]}"
mapfile -t guest_nodes < <(guests "$dtb")
place_modules "$dtb" "$(dirname -- "$config")" "$ram_bytes"
if [[ $batch ]]; then batch_words "$dtb" "${guest_nodes[@]}"; fi
append_words "$dtb" "$append"
load_modules

# In qemu-system-arm (7.2) a guest's own walks lose what of their addresses is above 4 GiB, where a guest has RAM that has more
# than 3 GiB. The other one has no such end, but its `max` is no CPU that starts in AArch32 state.
emulator='qemu-system-arm'
if ((ram_bytes > 3 << 30)) && [[ $cpu != max ]]; then emulator='qemu-system-aarch64'; fi

qemu=("$emulator" -M "$machine" "${hardware[@]}" "${extra[@]}" -display none
  -kernel "$root/build/armv7-release/cadastre.bin" -dtb "$dtb" "${loader_arguments[@]}")
if [[ " ${extra[*]-} " == *' -gdb '* ]]; then
  say "waiting for: gdb-multiarch build/armv7-release/cadastre.elf -ex 'target remote :1234'"
fi

status=0
if [[ $batch ]]; then
  run_batch "$timeout" "${qemu[@]}" -monitor none -serial stdio || status=$?
else
  log=$scratch/console.log
  run_interactive "$timeout" "$log" "${qemu[@]}" \
    -chardev "stdio,id=console,mux=on,signal=off,logfile=${log//,/,,}" -serial chardev:console -mon chardev=console || status=$?
  # Who leaves with Ctrl-a x meant to.
  if ((status == 0)) && [[ ! $panicked && ! $refused && ! $failed ]]; then exit 0; fi
fi
verdict "$status" "${guest_nodes[@]##*/}"
