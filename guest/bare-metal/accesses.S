// Accesses to a device that a CPU tells its hypervisor little about: several registers, base write-back, banked registers as
// base and target. The same instructions in ARM and in Thumb state.
//
//   void name(r0: 8 words of read-write registers, r1: 8 words to write, r2: kAccessResults words for what was read)
  .arch armv7-a
  .syntax unified
  .text

  .macro accesses name
  .global \name
  .type \name, %function
\name:
  push {r4-r11, lr}
  mov r12, r2
  // All of it is written, in pieces ...
  ldm r1, {r2-r9}
  stm r0!, {r2-r5}
  strd r6, r7, [r0], #8
  str r8, [r0, #4]!
  sub r0, r0, #4
  strb r9, [r0], #1  // word 6 is r9, word 7 is r8
  lsr r9, r9, #8
  strb r9, [r0], #1
  lsr r9, r9, #8
  strb r9, [r0], #1
  lsr r9, r9, #8
  strb r9, [r0], #5
  // ... and read
  ldmdb r0!, {r2-r9}
  stm r12!, {r2-r9}
  ldrd r2, r3, [r0, #8]!
  ldr r4, [r0], #-8
  ldrsb r5, [r0, #3]!
  sub r0, r0, #3
  stm r12!, {r2-r5}
  // Stack pointer and link register; interrupts have a stack of their own.
  mov r6, sp
  mov sp, r0
  pop {r2, r3}
  mov r4, sp
  sub r4, r4, r0
  ldmdb sp!, {r5, lr}
  mov r7, sp
  sub r7, r7, r0
  mov sp, r6
  mov r6, lr
  stm r12!, {r2-r7}
  // Every second instruction of a block has the opposite condition.
  mov r3, #0
  mov r5, #0
  cmp r0, r0
  itete eq
  ldmeq r0!, {r2, r4}
  movne r3, #1
  ldreq r6, [r0], #-8
  movne r5, #1
  stm r12!, {r2-r6}
  pop {r4-r11, pc}
  .endm

  .arm
  accesses arm_accesses
  .thumb
  accesses thumb_accesses

// std::uint32_t load_past_end(address): the base that an LDM with write-back leaves behind.
  .arm
  .global load_past_end
  .type load_past_end, %function
load_past_end:
  ldm r0!, {r1, r2}
  bx lr
