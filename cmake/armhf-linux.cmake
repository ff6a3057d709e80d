# The host's tests as 32-bit ARM programs, static, run by qemu-arm.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR armv7l)
set(CMAKE_C_COMPILER clang-19)
set(CMAKE_CXX_COMPILER clang++-19)
foreach(language C CXX ASM)
  set(CMAKE_${language}_COMPILER_TARGET arm-linux-gnueabihf)
endforeach()
set(CMAKE_EXE_LINKER_FLAGS_INIT "-static -fuse-ld=lld-19")
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-arm)

get_filename_component(root ${CMAKE_CURRENT_LIST_DIR} DIRECTORY)
set(CADASTRE_LIBFDT ${root}/build/sysroot/usr/lib/arm-linux-gnueabihf/libfdt.a)
