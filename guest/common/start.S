// Entered in SVC mode, MMU and caches off, r2 = DTB [Linux Documentation/arm/booting.rst].
  .arch armv7-a
  .arch_extension virt
  .arch_extension sec
  .syntax unified
  .arm

  .section .text.start, "ax"
  .global start
start:
  mov r4, r2
  cpsid aif, #0x12
  ldr sp, =irq_stack
  cpsid aif, #0x17
  ldr sp, =abort_stack
  cpsid aif, #0x1b
  ldr sp, =undefined_stack
  cpsid aif, #0x13
  ldr sp, =svc_stack

  ldr r0, =bss_start
  ldr r1, =bss_end
  mov r2, #0
1:
  cmp r0, r1
  strlo r2, [r0], #4
  blo 1b

  ldr r0, =vectors
  mcr p15, 0, r0, c12, c0, 0  // VBAR
  isb
  mov r0, r4
  bl guest_main
  b .

  .text
// Each vector leaves an ExceptionFrame on its mode's stack and calls its handler, which may change where to return to.
// `adjust` is what makes the link register the address of the instruction: the one that faulted, or the next to execute
// after an interrupt [ARMv7 B1.8.3, table B1-7].
  .macro exception mode, adjust, handler
  sub lr, lr, #\adjust
  srsdb sp!, #\mode
  push {r0-r12, lr}
  mov r0, sp
  bl \handler
  pop {r0-r12, lr}
  rfeia sp!
  .endm

  .balign 32
vectors:
  b .
  b undefined_vector
  b call_vector
  b prefetch_vector
  b data_vector
  b .
  b irq_vector
  b .

undefined_vector:
  exception 0x1b, 4, on_undefined
call_vector:
  exception 0x13, 4, on_supervisor_call
prefetch_vector:
  exception 0x17, 4, on_prefetch_abort
data_vector:
  exception 0x17, 8, on_data_abort
irq_vector:
  exception 0x12, 4, on_irq

// Where a second CPU starts (second_cpu.cc), MMU and caches off, r0 = the function that it runs before it goes off.
  .global second_entry
second_entry:
  mov r4, r0
  cpsid aif, #0x12
  ldr sp, =second_irq_stack
  cpsid aif, #0x17
  ldr sp, =second_abort_stack
  cpsid aif, #0x1b
  ldr sp, =second_undefined_stack
  cpsid aif, #0x13
  ldr sp, =second_svc_stack
  ldr r0, =vectors
  mcr p15, 0, r0, c12, c0, 0  // VBAR
  isb
  bl start_second_mmu
  blx r4
  ldr r0, =0x84000002  // CPU_OFF [PSCI 5.1.3]
  hvc #0
  b .

// void execute(address): an abort of the fetch is continued where r4 points (exceptions.cc).
  .global execute
execute:
  push {r4, lr}
  adr r4, 1f
  bx r0
1:
  pop {r4, pc}

// std::uint32_t hypervisor_call(function, three arguments), secure_call(function, argument): [SMCCC 2.6], 32-bit.
  .global hypervisor_call
hypervisor_call:
  hvc #0
  bx lr

  .global secure_call
secure_call:
  smc #0
  bx lr
