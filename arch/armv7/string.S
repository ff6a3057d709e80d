// memset and memcpy for large, aligned blocks, which is what a memory manager has: eight registers an instruction. newlib's
// for ARMv7 without floating point store a word at a time (measured: 2 instructions for 4 bytes, against 6 for 128 here),
// and zeroing frames is most of what a boot does.

    .syntax unified
    .arch armv7-a
    .arm

// The names that the compiler uses [RTABI 4.3.4]: the same functions, memset's with its last two arguments exchanged.
    .section .text.memset, "ax"
    .global __aeabi_memclr, __aeabi_memclr4, __aeabi_memclr8
__aeabi_memclr:
__aeabi_memclr4:
__aeabi_memclr8:
    mov     r2, #0
    .global __aeabi_memset, __aeabi_memset4, __aeabi_memset8
__aeabi_memset:
__aeabi_memset4:
__aeabi_memset8:
    mov     r3, r1
    mov     r1, r2
    mov     r2, r3
// void* memset(void* to, int value, size_t size)
    .global memset
    .type memset, %function
memset:
    mov     r12, r0
    cmp     r2, #32
    blo     3f
1:  tst     r12, #7                 // up to an address that STM likes
    beq     2f
    strb    r1, [r12], #1
    sub     r2, r2, #1
    b       1b
2:  and     r1, r1, #0xff
    orr     r1, r1, r1, lsl #8
    orr     r1, r1, r1, lsl #16
    push    {r4-r10}
    mov     r3, r1
    mov     r4, r1
    mov     r5, r1
    mov     r6, r1
    mov     r7, r1
    mov     r8, r1
    mov     r9, r1
    subs    r2, r2, #128
    blo     5f
4:  stm     r12!, {r1, r3-r9}
    stm     r12!, {r1, r3-r9}
    stm     r12!, {r1, r3-r9}
    stm     r12!, {r1, r3-r9}
    subs    r2, r2, #128
    bhs     4b
5:  adds    r2, r2, #(128 - 32)     // the rest, 32 bytes at a time
6:  stmhs   r12!, {r1, r3-r9}
    subshs  r2, r2, #32
    bhs     6b
    add     r2, r2, #32
    pop     {r4-r10}
3:  subs    r2, r2, #1              // what is left, byte by byte
    strbhs  r1, [r12], #1
    bhs     3b
    bx      lr

// Zeroes, and cleans and invalidates each line to the point of coherency when it is complete (DCCIMVAC): from the end down, so
// that the address of what was just stored is the line's own, three instructions a line of 64 bytes. Longer lines are cleaned
// in each of their parts. A page a round; the size is whole pages, the barrier the caller's.
    .section .text.zero_and_clean, "ax"
// void zero_and_clean(void* begin, size_t size)
    .global zero_and_clean
    .type zero_and_clean, %function
zero_and_clean:
    add     r12, r0, r1
    push    {r4-r8}
    mov     r1, #0
    mov     r2, #0
    mov     r3, #0
    mov     r4, #0
    mov     r5, #0
    mov     r6, #0
    mov     r7, #0
    mov     r8, #0
1:  .rept   64
    stmdb   r12!, {r1-r8}
    stmdb   r12!, {r1-r8}
    mcr     p15, 0, r12, c7, c14, 1
    .endr
    cmp     r12, r0
    bhi     1b
    pop     {r4-r8}
    bx      lr

    .section .text.memcpy, "ax"
// void* memcpy(void* to, const void* from, size_t size)
    .global __aeabi_memcpy, __aeabi_memcpy4, __aeabi_memcpy8
__aeabi_memcpy:
__aeabi_memcpy4:
__aeabi_memcpy8:
    .global memcpy
    .type memcpy, %function
memcpy:
    mov     r12, r0
    cmp     r2, #32
    blo     3f
    eor     r3, r0, r1
    tst     r3, #3                  // can both be word-aligned at once?
    bne     7f
1:  tst     r12, #3
    beq     2f
    ldrb    r3, [r1], #1
    strb    r3, [r12], #1
    sub     r2, r2, #1
    b       1b
2:  push    {r4-r10}
    subs    r2, r2, #64
    blo     5f
4:  ldm     r1!, {r3-r10}
    stm     r12!, {r3-r10}
    ldm     r1!, {r3-r10}
    stm     r12!, {r3-r10}
    subs    r2, r2, #64
    bhs     4b
5:  adds    r2, r2, #(64 - 32)
    ldmhs   r1!, {r3-r10}
    stmhs   r12!, {r3-r10}
    subhs   r2, r2, #32
    add     r2, r2, #32
    pop     {r4-r10}
3:  subs    r2, r2, #1
    ldrbhs  r3, [r1], #1
    strbhs  r3, [r12], #1
    bhs     3b
    bx      lr
7:  subs    r2, r2, #4              // words wherever they begin: LDR may be unaligned, SCTLR.A is off [ARMv7 A3.2.1]
    ldrhs   r3, [r1], #4
    strhs   r3, [r12], #4
    bhs     7b
    add     r2, r2, #4
    b       3b
