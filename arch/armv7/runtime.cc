// What the compiler, libc++'s headers, newlib and libfdt expect to find in any program.
#include <cstddef>
#include <cstdint>

#include "mm/base/check.hh"

// NOLINTBEGIN(bugprone-reserved-identifier, misc-new-delete-overloads, cert-dcl50-cpp): their names are not ours to choose.
extern "C" {

// libfdt's package is built with stack protection. One value for all, as for a static Linux program before it
// has randomness: it finds accidents, not attackers.
std::uintptr_t __stack_chk_guard = 0x5afec0de;
[[noreturn]] void __stack_chk_fail() {
  cadastre::check_failed("stack protector", __FILE__, __LINE__);
}

// newlib's strtoul reports through errno.
static int error_number;
int* __errno() {
  return &error_number;
}

[[noreturn]] void __cxa_pure_virtual() {
  cadastre::check_failed("pure virtual call", __FILE__, __LINE__);
}
void* __dso_handle = nullptr;
int __aeabi_atexit(void* /*object*/, void (* /*destroy*/)(void*), void* /*handle*/) {
  return 0;  // static objects live as long as the machine
}

// EHABI's personality routines: the tables name them, nothing throws.
void __aeabi_unwind_cpp_pr0() {}
void __aeabi_unwind_cpp_pr1() {}
}

// The deleting destructors of classes with virtual functions name it; nothing here is ever deleted.
void operator delete(void* /*object*/) noexcept {
  cadastre::check_failed("operator delete", __FILE__, __LINE__);
}
void operator delete(void* /*object*/, std::size_t /*size*/) noexcept {
  cadastre::check_failed("operator delete", __FILE__, __LINE__);
}

// libc++'s hardening and std::expected::value() end here.
_LIBCPP_BEGIN_NAMESPACE_STD
[[noreturn]] void __libcpp_verbose_abort(const char* format, ...) {
  cadastre::check_failed(format, "libc++", 0);
}
_LIBCPP_END_NAMESPACE_STD
// NOLINTEND(bugprone-reserved-identifier, misc-new-delete-overloads, cert-dcl50-cpp)
