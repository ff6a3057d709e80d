# Freestanding ARMv7-A: Clang and lld, libc++'s headers over newlib's, and from build/sysroot (scripts/setup.sh)
# newlib's C functions, compiler-rt's __aeabi_* helpers and libfdt.
set(CMAKE_SYSTEM_NAME Generic)
set(CMAKE_SYSTEM_PROCESSOR armv7a)
set(CADASTRE_TARGET ON)
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_CXX_COMPILER clang++-19)
set(CMAKE_ASM_COMPILER clang-19)
set(CMAKE_TRY_COMPILE_TARGET_TYPE STATIC_LIBRARY)
foreach(language C CXX ASM)
  set(CMAKE_${language}_COMPILER_TARGET armv7a-none-eabi)
endforeach()

get_filename_component(root ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)
set(sysroot ${root}/build/sysroot)

set(machine "-mcpu=cortex-a15 -mfpu=none -mfloat-abi=soft -marm -ffreestanding -fno-pic -mno-unaligned-access")
set(machine "${machine} -ffunction-sections -fdata-sections -fno-omit-frame-pointer")
set(machine "${machine} -ffile-prefix-map=${root}=.")
# The project's __config_site comes before libc++'s own.
set(includes "-nostdinc++ -isystem ${root}/cmake/libcxx -isystem /usr/lib/llvm-19/include/c++/v1")
set(c_includes "-isystem /usr/include/newlib")
# libfdt's headers are the same on every architecture.
set(CMAKE_C_FLAGS_INIT "${machine} ${c_includes}")
set(CMAKE_ASM_FLAGS_INIT "${machine}")
set(CMAKE_CXX_FLAGS_INIT
  "${machine} ${includes} ${c_includes} -fno-exceptions -fno-rtti -fno-threadsafe-statics -fno-use-cxa-atexit")
set(CMAKE_C_FLAGS_RELEASE "-O2 -g -DNDEBUG" CACHE STRING "")
# What is small in one file is inlined into another (-flto): the world switch is a quarter shorter.
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g -DNDEBUG -flto" CACHE STRING "")

set(CADASTRE_LIBFDT ${sysroot}/usr/lib/arm-linux-gnueabihf/libfdt.a)
set(CADASTRE_TARGET_LIBRARIES
  ${CADASTRE_LIBFDT}
  ${sysroot}/usr/lib/arm-none-eabi/newlib/thumb/v7-a/nofp/libc.a
  ${sysroot}/usr/lib/llvm-19/lib/clang/19/lib/linux/libclang_rt.builtins-armhf.a)
set(CMAKE_EXE_LINKER_FLAGS_INIT "-nostdlib -static -fuse-ld=lld-19 -Wl,--gc-sections -Wl,--build-id=none")
