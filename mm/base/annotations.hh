// Clang's thread-safety attributes: a field names its lock, and -Wthread-safety holds every access to it.
#pragma once

#if defined(__clang__)
#define CADASTRE_ATTRIBUTE(x) __attribute__((x))
#else
#define CADASTRE_ATTRIBUTE(x)
#endif

#define CAPABILITY(name) CADASTRE_ATTRIBUTE(capability(name))
#define SCOPED_CAPABILITY CADASTRE_ATTRIBUTE(scoped_lockable)
#define GUARDED_BY(lock) CADASTRE_ATTRIBUTE(guarded_by(lock))
#define REQUIRES(...) CADASTRE_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define ACQUIRE(...) CADASTRE_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define RELEASE(...) CADASTRE_ATTRIBUTE(release_capability(__VA_ARGS__))
#define TRY_ACQUIRE(...) CADASTRE_ATTRIBUTE(try_acquire_capability(__VA_ARGS__))
#define EXCLUDES(...) CADASTRE_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define NO_THREAD_SAFETY_ANALYSIS CADASTRE_ATTRIBUTE(no_thread_safety_analysis)
