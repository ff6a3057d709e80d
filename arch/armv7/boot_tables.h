// Numbers that the boot assembly and C++ share; plain macros, because the assembler reads them too.
#pragma once

// The boot tables, a page each: the roots, level 2 of the top GiB, level 2 of the identity map, level 3 of the image,
// level 3 of the UART's fixmap slot.
#define BOOT_TABLES_PAGES 5
#define BOOT_ROOT_IDENTITY 0
#define BOOT_ROOT_ALIAS 0x20
#define BOOT_ROOT_IMAGE 0x40
#define BOOT_L2_HIGH 0x1000
#define BOOT_L2_IDENTITY 0x2000
#define BOOT_L3_IMAGE 0x3000
#define BOOT_L3_UART 0x4000

// The GiB of the alias of the code that turns the MMU on: not the image's, and not that code's own.
#define ALIAS_GIB 2
#define ALIAS_GIB_OTHER 1

// Long descriptors [ARMv7 B3.6.1]: valid, table/page bit; AttrIndx[4:2], AP[1] (RES1 in HYP), SH[9:8] inner, AF.
#define DESC_TABLE 3
#define DESC_ATTRIBUTES(index) (((index) << 2) | (1 << 6) | (3 << 8) | (1 << 10))
#define DESC_NORMAL_BLOCK (1 | DESC_ATTRIBUTES(0))
#define DESC_NORMAL_PAGE (3 | DESC_ATTRIBUTES(0))
#define DESC_DEVICE_PAGE (3 | DESC_ATTRIBUTES(1))

// The same values as kHmair0, kHmair1 and kHtcr in mm/translation/hyp_table.hh (asserted in boot_tables.cc), which the final tables are
// made for: attribute 0 is Normal write-back, 1 Device.
#define MAIR0_VALUE 0x004404ff
#define MAIR1_VALUE 0
#define TCR_VALUE 0x80803500
// HSCTLR [ARMv7 B4.1.62]: RES1 bits, I, C, M.
#define HSCTLR_VALUE (0x30c50830 | (1 << 12) | (1 << 2) | (1 << 0))
// HSCTLR.WXN: once the final tables are in place nothing writable may be executed.
#define HSCTLR_WXN (1 << 19)
#define SCTLR_M_C_I ((1 << 12) | (1 << 2) | (1 << 0))
