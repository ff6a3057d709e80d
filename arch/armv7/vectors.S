// HYP's vectors and the world switch.
//
// While a guest runs, HYP's stack pointer is parked at the end of the guest's register file (GuestFrame), so the first
// instruction of an exit stores all registers into place:
//
//      GuestFrame   r0 ... r12  lr | pc  cpsr  hyp_sp
//                   ^              ^
//                   after the push SP_hyp while the guest runs
//
// HYP runs with A, I and F masked, so an interrupt vector can only come from a guest. Undefined, abort and HVC vectors
// other than 0x14 come from HYP itself, but for the asynchronous abort of a guest (HCR.AMO) [ARMv7 B1.8.4].

#include "arch/armv7/guest_frame.h"

    .syntax unified
    .arch armv7-a
    .arch_extension virt
    .arm

    .section .text.vectors, "ax"
    .balign 32
    .global hyp_vectors
hyp_vectors:
    b       .                       // 0x00: reset, not used here
    b       hyp_undefined           // 0x04
    b       hyp_hvc                 // 0x08
    b       hyp_prefetch_abort      // 0x0c
    b       data_abort              // 0x10
    b       guest_trap              // 0x14
    b       guest_irq               // 0x18
    // 0x1c: FIQ
    push    {r0-r12, lr}
    mov     r0, #EXIT_FIQ
    b       exit_guest

guest_trap:
    push    {r0-r12, lr}
    mov     r0, #EXIT_TRAP
exit_guest:
    mrs     r1, ELR_hyp
    mrs     r2, SPSR
    str     r1, [sp, #FRAME_ELR]
    str     r2, [sp, #FRAME_SPSR]
    ldr     sp, [sp, #FRAME_HYP_SP]
    pop     {r4-r11, pc}

guest_irq:
    push    {r0-r12, lr}
    mov     r0, #EXIT_IRQ
    b       exit_guest

// ExitKind enter_guest(GuestFrame*)
    .global enter_guest
    .type enter_guest, %function
enter_guest:
    push    {r4-r11, lr}
    str     sp, [r0, #FRAME_HYP_SP]
    ldr     r1, [r0, #FRAME_ELR]
    ldr     r2, [r0, #FRAME_SPSR]
    msr     ELR_hyp, r1
    msr     SPSR_cxsf, r2
    clrex                           // the guest's exclusive monitor does not outlive a visit here [ARMv7 A3.4.5]
    mov     sp, r0
    pop     {r0-r12, lr}
    eret

data_abort:
    push    {r0-r12, lr}
    mrs     r1, SPSR
    and     r1, r1, #0x1f
    cmp     r1, #0x1a               // from HYP mode: ours
    mov     r1, #0x10
    beq     own_exception
    mov     r0, #EXIT_ASYNC_ABORT
    b       exit_guest

hyp_undefined:
    push    {r0-r12, lr}
    mov     r1, #0x04
    b       own_exception
hyp_hvc:
    push    {r0-r12, lr}
    mov     r1, #0x08
    b       own_exception
hyp_prefetch_abort:
    push    {r0-r12, lr}
    mov     r1, #0x0c
own_exception:
    mrs     r2, ELR_hyp
    mrs     r3, SPSR
    sub     sp, sp, #8
    mov     r0, sp                  // a HypFrame: r0-r12 and lr move down to make room for pc and cpsr
    add     r12, sp, #8
    .rept 2
    ldm     r12!, {r4-r10}
    stm     r0!, {r4-r10}
    .endr
    stm     r0, {r2, r3}
    mov     r0, sp
    b       hyp_exception
