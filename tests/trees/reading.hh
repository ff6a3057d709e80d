// A machine's tree read as the hypervisor reads it when it boots: the same functions in the same order, over a real memblock,
// up to where the first page tables are made.
#pragma once

#include <span>

#include "hyp/config/plan.hh"
#include "hyp/config/reserve.hh"
#include "mm/boot/memblock.hh"
#include "mm/boot/reservations.hh"
#include "platform/dtb/host.hh"
#include "tests/trees/firmware.hh"

namespace cadastre::trees {

struct Reading {
  HostDescription host;
  Configuration configuration;
  Refusals refusals;  // none: accepted
  Memblock memblock;
  Reservations reservations;
  Pools pools;
};

// `blob` is 8-byte aligned. Every guest's kernel is taken for a file of instructions.
void read_machine(std::span<const std::byte> blob, const Loaded& loaded, Reading& reading);

}  // namespace cadastre::trees
