// Moving a vCPU's state into the hardware of this CPU and back. What enter_guest() carries at every exit is not part of it.
#pragma once

namespace cadastre {

struct Vcpu;

// Once on each CPU: traps, stage-2 control, vectors for what HYP itself does wrong.
void init_world_switch();

// Nothing of another vCPU is loaded.
void load_vcpu(Vcpu& vcpu);
void unload_vcpu(Vcpu& vcpu);

// A new generation of VMIDs may have begun since the loaded vCPU was loaded (mm/translation/vmid.hh). At least once a time slice: two
// generations do not fit into one.
void refresh_vmid(Vcpu& vcpu);

// The list registers of the loaded vCPU: brings them up to date before an entry when the vGIC says that it is dirty.
void refresh_list_registers(Vcpu& vcpu);
// Folds them back into the vGIC's state, which then knows what is pending and active.
void sync_list_registers(Vcpu& vcpu);

}  // namespace cadastre
