#pragma once

namespace cadastre {

inline constexpr unsigned kMaxVcpus = 8;  // a GICv2 has eight CPU interfaces: ITARGETSR has 8 bits [GICv2 4.3.12]

}  // namespace cadastre
