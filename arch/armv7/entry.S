// From the boot loader to C++ [Linux Documentation/arm/booting.rst]: MMU and D-cache off, r2 = physical address of the DTB, any
// load address that is a multiple of 4 KiB. QEMU's -kernel and U-Boot's bootz start this flat binary by its zImage header.
//
// The code that turns the MMU on lies at its physical address, which may be any, that of the image or of a fixmap slot among
// them. So nothing else is mapped until it has been left, for an alias of it in another GiB (p is its GiB, a the alias's):
//
//   boot tables: roots of 4 entries               level 2                              level 3
//   BOOT_ROOT_IDENTITY   [p] and [a] -----------> the 2 MiB block of this code
//   BOOT_ROOT_ALIAS      [a] -------------------> the same
//   BOOT_ROOT_IMAGE      [a] -------------------> the same
//                        [3] -------------------> [kImage] --------------------------> the image, page by page
//
// A CPU goes through all three, and flushes its TLB at the second: what was in another table is gone before there is anything
// else in its place [ARMv7 B3.10.1].
//
// The same tables serve HYP mode and, when somebody started us there, SVC mode with long descriptors: so that the report
// "started in SVC mode" comes out through the same C++ code as every other message [ARMv7 B3.6.2].

#include "arch/armv7/boot_tables.h"

    .syntax unified
    .arch armv7-a
    .arch_extension virt
    .arch_extension sec
    .arm

    .section .head, "ax"
    .global _start
_start:
    .rept 8
    nop                             // a zImage begins with eight words that do nothing
    .endr
    b       entry
    .word   0x016f2818              // zImage magic
    .word   0                       // start: position independent
    .word   __file_end - _start     // end: size of the file
    .word   0x04030201              // endianness mark
entry:
    cpsid   aif
    mov     r10, r2                 // DTB
    adr     r11, _start             // where we are
    ldr     r0, =_start
    sub     r9, r11, r0             // physical - virtual

    // Count instructions from here on: event 0x08, INST_RETIRED, in HYP mode too [ARMv7 C12.8.2, C12.12.12].
    mrc     p15, 0, r0, c9, c12, 0  // PMCR
    orr     r0, r0, #7              // E, P, C: enable, reset counters
    mcr     p15, 0, r0, c9, c12, 0
    mov     r0, #0
    mcr     p15, 0, r0, c9, c12, 5  // PMSELR: counter 0
    ldr     r0, =0x08000008         // PMXEVTYPER: NSH, INST_RETIRED
    mcr     p15, 0, r0, c9, c13, 1
    mov     r0, #1
    mcr     p15, 0, r0, c9, c12, 1  // PMCNTENSET: counter 0

    bl      build_boot_tables
    ldr     lr, =high               // where it is linked
    b       enable_mmu
high:
    ldr     sp, =boot_stack_top
    ldr     r0, =__bss_start
    ldr     r1, =__bss_end
    mov     r2, #0
    mov     r3, #0
    mov     r4, #0
    mov     r5, #0
1:  cmp     r0, r1
    stmialo r0!, {r2-r5}
    blo     1b

    mov     r0, r10                 // DTB
    mov     r1, r11                 // load address
    mrs     r2, cpsr
    and     r2, r2, #0x1f           // mode
    mov     r11, #0                 // the frame-pointer chain ends here
    bl      boot_main
    b       .

// A secondary CPU, from PSCI's CPU_ON: HYP mode, MMU and caches off, r0 = its number [PSCI 6.4]. It comes up with the boot
// tables, which nobody has touched since, and goes on with the final ones.
    .global secondary_entry
secondary_entry:
    cpsid   aif
    mov     r10, r0
    adr     r11, _start
    ldr     r0, =_start
    sub     r9, r11, r0
    ldr     lr, =secondary_high
    b       enable_mmu
secondary_high:
    ldr     r0, =secondary_root
    ldrd    r2, r3, [r0]
    mcrr    p15, 4, r2, r3, c2      // HTTBR
    isb
    mcr     p15, 4, r0, c8, c7, 0   // TLBIALLH
    dsb
    isb
    ldr     r0, =secondary_stacks
    ldr     sp, [r0, r10, lsl #2]
    mov     r0, r10
    mov     r11, #0
    bl      secondary_main
    b       .

// in: r9 = physical - virtual, r11 = physical _start. Clobbers r0-r8.
build_boot_tables:
    // Clear the tables.
    ldr     r0, =boot_tables
    add     r0, r0, r9
    add     r1, r0, #(BOOT_TABLES_PAGES * 4096)
    mov     r2, #0
    mov     r3, #0
1:  strd    r2, r3, [r0], #8
    cmp     r0, r1
    blo     1b

    ldr     r4, =boot_tables
    add     r4, r4, r9              // roots
    add     r5, r4, #BOOT_L2_HIGH
    add     r6, r4, #BOOT_L2_IDENTITY
    add     r7, r4, #BOOT_L3_IMAGE

    // Level 1.
    mov     r1, #0
    orr     r0, r6, #DESC_TABLE
    lsr     r2, r11, #30            // p
    add     r3, r4, r2, lsl #3
    strd    r0, r1, [r3, #BOOT_ROOT_IDENTITY]
    cmp     r2, #ALIAS_GIB
    moveq   r2, #ALIAS_GIB_OTHER
    movne   r2, #ALIAS_GIB
    add     r3, r4, r2, lsl #3
    strd    r0, r1, [r3, #BOOT_ROOT_IDENTITY]
    strd    r0, r1, [r3, #BOOT_ROOT_ALIAS]
    strd    r0, r1, [r3, #BOOT_ROOT_IMAGE]
    orr     r0, r5, #DESC_TABLE
    strd    r0, r1, [r4, #(BOOT_ROOT_IMAGE + 3 * 8)]

    // Identity: one block is enough, because .head is smaller than a page and the load address is page-aligned.
    lsr     r0, r11, #21
    ldr     r2, =0x1ff
    and     r3, r0, r2
    add     r3, r6, r3, lsl #3
    lsl     r0, r0, #21
    ldr     r2, =DESC_NORMAL_BLOCK
    orr     r0, r0, r2
    strd    r0, r1, [r3]

    // The image: link address and pages.
    ldr     r2, =_start
    ubfx    r2, r2, #21, #9
    add     r2, r5, r2, lsl #3
    orr     r0, r7, #DESC_TABLE
    strd    r0, r1, [r2]
    ldr     r2, =DESC_NORMAL_PAGE
    orr     r0, r11, r2
    ldr     r3, =__image_end
    add     r3, r3, r9              // physical end
1:  strd    r0, r1, [r7], #8
    add     r0, r0, #4096
    cmp     r0, r3
    blo     1b
    dsb
    bx      lr

// in: r9 = physical - virtual, r11 = physical _start, lr = a linked address, to which it goes with the MMU and the caches on.
enable_mmu:
    ldr     r4, =boot_tables
    add     r4, r4, r9              // BOOT_ROOT_IDENTITY
    add     r6, r4, #BOOT_ROOT_ALIAS
    add     r8, r4, #BOOT_ROOT_IMAGE
    mov     r5, #0
    mov     r7, #0
    mov     r9, #0
    adr     r12, alias
    bic     r12, r12, #(3 << 30)
    lsr     r0, r11, #30
    cmp     r0, #ALIAS_GIB
    orreq   r12, r12, #(ALIAS_GIB_OTHER << 30)
    orrne   r12, r12, #(ALIAS_GIB << 30)
    ldr     r0, =MAIR0_VALUE
    ldr     r1, =MAIR1_VALUE
    ldr     r2, =TCR_VALUE
    mrs     r3, cpsr
    and     r3, r3, #0x1f
    cmp     r3, #0x1a               // HYP mode
    bne     2f
    mcr     p15, 4, r0, c10, c2, 0  // HMAIR0
    mcr     p15, 4, r1, c10, c2, 1  // HMAIR1
    mcr     p15, 4, r2, c2, c0, 2   // HTCR
    mcrr    p15, 4, r4, r5, c2      // HTTBR
    mcr     p15, 0, r0, c7, c5, 0   // ICIALLU
    mcr     p15, 4, r0, c8, c7, 0   // TLBIALLH
    dsb
    isb
    ldr     r0, =HSCTLR_VALUE
    mcr     p15, 4, r0, c1, c0, 0   // HSCTLR
    isb
    bx      r12
2:  mcr     p15, 0, r0, c10, c2, 0  // MAIR0
    mcr     p15, 0, r1, c10, c2, 1  // MAIR1
    orr     r2, r2, #(1 << 31)      // TTBCR.EAE
    mcr     p15, 0, r2, c2, c0, 2   // TTBCR
    mcrr    p15, 0, r4, r5, c2      // TTBR0
    mcr     p15, 0, r0, c7, c5, 0   // ICIALLU
    mcr     p15, 0, r0, c8, c7, 0   // TLBIALL
    dsb
    isb
    mrc     p15, 0, r0, c1, c0, 0   // SCTLR
    ldr     r1, =SCTLR_M_C_I
    orr     r0, r0, r1
    mcr     p15, 0, r0, c1, c0, 0
    isb
    bx      r12
alias:
    cmp     r3, #0x1a
    bne     3f
    mcrr    p15, 4, r6, r7, c2      // HTTBR
    isb
    mcr     p15, 4, r0, c8, c7, 0   // TLBIALLH
    dsb
    isb
    mcrr    p15, 4, r8, r9, c2
    isb
    bx      lr
3:  mcrr    p15, 0, r6, r7, c2      // TTBR0
    isb
    mcr     p15, 0, r0, c8, c7, 0   // TLBIALL
    dsb
    isb
    mcrr    p15, 0, r8, r9, c2
    isb
    bx      lr
    .ltorg

    .section .boot_tables, "aw", %nobits
    .balign 4096
    .global boot_tables
boot_tables:
    .skip   BOOT_TABLES_PAGES * 4096
    .skip   8192
boot_stack_top:
