// Slab caches by name, for who only hands them on: what they are is hyp/core/memory.hh.
#pragma once

#include "arch/armv7/machine.hh"
#include "mm/base/machine.hh"

namespace cadastre {

template <class T, Machine M>
class SlabCache;

template <class T>
using ObjectsOf = SlabCache<T, arch::ArmMachine>;

}  // namespace cadastre
