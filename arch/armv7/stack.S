    .syntax unified
    .arch armv7-a
    .arm

    .section .text.stack, "ax"
// [[noreturn]] void continue_on_stack(void* top, void (*next)()): leaves the boot stack for good.
    .global continue_on_stack
    .type continue_on_stack, %function
continue_on_stack:
    mov     sp, r0
    mov     r11, #0                 // the frame-pointer chain ends here
    blx     r1
    b       .
