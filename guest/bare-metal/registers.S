// Two register reads that are refused: the hypervisor's configuration register, and one of those that are left to
// implementations and that this CPU does not have [ARMv7 B4.2.1].
  .arch armv7-a
  .syntax unified
  .text

  .global read_hcr
read_hcr:
  mrc p15, 4, r0, c1, c1, 0
  bx lr

  .global read_unallocated
read_unallocated:
  mrc p15, 7, r0, c9, c8, 7
  bx lr
