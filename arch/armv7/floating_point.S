// The floating-point registers of a vCPU. HYP itself is compiled without them; this file alone names them.

    .syntax unified
    .arch armv7-a
    .fpu neon-vfpv4
    .arm

    .text
// in: r0 = FloatingPoint* { d[32], fpscr, fpexc }
    .global floating_point_save
    .type floating_point_save, %function
floating_point_save:
    vmrs    r2, fpexc
    orr     r3, r2, #(1 << 30)      // EN: the guest may have it off
    vmsr    fpexc, r3
    vmrs    r1, fpscr
    vstm    r0!, {d0-d15}
    vstm    r0!, {d16-d31}
    stm     r0, {r1, r2}
    bx      lr

    .global floating_point_restore
    .type floating_point_restore, %function
floating_point_restore:
    mov     r3, #(1 << 30)
    vmsr    fpexc, r3
    vldm    r0!, {d0-d15}
    vldm    r0!, {d16-d31}
    ldr     r1, [r0]
    ldr     r2, [r0, #4]
    vmsr    fpscr, r1
    vmsr    fpexc, r2
    bx      lr
