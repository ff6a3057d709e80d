// Starts the hypervisor as a boot loader would, with a DTB that nobody repaired on the way: QEMU adds to the DTBs that it
// hands over itself. Position independent.
  .arch armv7-a
  .syntax unified
  .arm
  .section .text.start, "ax"
  .global start
start:
  mov r0, #0
  mvn r1, #0          // no machine number
  ldr r2, =0x44000000 // where the test put the DTB
  ldr r3, =0x40100ffc // where the test wrote the place of the hypervisor
  ldr pc, [r3]
