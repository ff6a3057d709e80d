// Where the second CPU starts, r0 = Registers* (second_cpu.cc): tells what it finds, changes it, and goes off. It
// needs no stack.
  .arch armv7-a
  .arch_extension virt
  .syntax unified
  .text

  .global second_start
second_start:
  mrc p15, 0, r1, c1, c0, 0   // SCTLR
  mrc p15, 0, r2, c12, c0, 0  // VBAR
  mrc p15, 0, r3, c13, c0, 0  // FCSEIDR
  stmib r0, {r1-r3}
  dsb
  ldr r4, [r0]
  add r4, r4, #1
  str r4, [r0]
  dsb
  orr r1, r1, #0x1000  // I
  mcr p15, 0, r1, c1, c0, 0
  mov r2, #0x1000
  mcr p15, 0, r2, c12, c0, 0
  mov r3, #0x46000000
  mcr p15, 0, r3, c13, c0, 0
  isb
  ldr r0, =0x84000002  // CPU_OFF [PSCI 5.1.3]
  hvc #0
  b .
