// What firmware and a boot loader do to a board's tree before they start what it describes, and where they load things.
#pragma once

#include "tests/trees/tree.hh"

namespace cadastre::trees {

// What was loaded beside the tree. All lies in RAM, clear of what the tree reserves and of each other.
struct Loaded {
  Range image;  // the hypervisor's
  Range tree;
  Range kernel;  // the guest's
  Range initrd;  // the guest's
};

// Fills in, as U-Boot does for ARMv7 (arch/arm/lib/bootm-fdt.c, arch/arm/cpu/armv7/virt-dt.c, common/fdt_support.c):
// - RAM, where no memory node has any (fdt_fixup_memory_banks): 1 GiB where the node's own name or reg says, or else from the
//   lowest multiple of 1 GiB below what the board reserves, or else at 0x4000'0000;
// - PSCI 1.0 over SMC, where there is no node of PSCI 0.2 or later (fdt_psci), and each CPU's enable-method;
// - Linux's command line in /chosen, and the tree's own range in /memreserve/;
// and, as ImageBuilder does for Xen, a dom0less guest of 16 MiB in /chosen, whose files a boot loader has put into RAM.
[[nodiscard]] Loaded fill_in(Tree& tree);

}  // namespace cadastre::trees
