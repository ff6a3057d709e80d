// board_table DTB...: how each board fares whose tree this is, filled in as firmware does, as the table of docs/boards.md.
#include <algorithm>
#include <array>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <ranges>
#include <string>
#include <vector>

#include "mm/base/check.hh"
#include "tests/trees/firmware.hh"
#include "tests/trees/reading.hh"
#include "tests/trees/tree.hh"

namespace cadastre {

void check_failed(const char* condition, const char* file, int line) {
  std::cerr << file << ':' << line << ": CHECK failed: " << condition << '\n';
  std::abort();
}

namespace trees {
namespace {

// With the Virtualization Extensions, or of ARMv8, whose EL2 can be in AArch32 state.
constexpr std::array<std::string_view, 9> kHypCapable = {"arm,cortex-a7",  "arm,cortex-a12",  "arm,cortex-a15",
                                                         "arm,cortex-a17", "arm,cortex-a53",  "arm,cortex-a55",
                                                         "arm,cortex-a72", "brcm,brahma-b15", "arm,cortex-a32"};

// "2 cortex-a7, 4 cortex-a15", or nothing when none of them has HYP mode.
std::string cpus_of(const Node& root) {
  std::map<std::string, unsigned> counts;
  bool is_capable = false;
  const Node* cpus = root.child("cpus");
  for (const Node& node : cpus == nullptr ? std::vector<Node>{} : cpus->children) {
    if (!node.name.starts_with("cpu@") && node.name != "cpu") continue;
    const Property* compatible = node.property("compatible");
    if (compatible == nullptr || compatible->strings().empty()) continue;
    const std::string kind = compatible->strings()[0];
    is_capable = is_capable || std::ranges::find(kHypCapable, kind) != kHypCapable.end();
    ++counts[kind.substr(kind.find(',') + 1)];
  }
  std::string text;
  for (const auto& [kind, count] : counts) text += (text.empty() ? "" : ", ") + std::to_string(count) + ' ' + kind;
  return is_capable ? text : std::string();
}

std::string name_of(const std::string& path) {
  const std::size_t from = path.rfind('/') + 1;
  return path.substr(from, path.rfind('.') - from);
}

// What a board is told when it is refused: the reasons, each without its path.
std::string verdict_of(const Refusals& refusals) {
  if (refusals.empty()) return "accepted";
  std::string text = "refused: ";
  for (std::size_t i = 0; i < std::min(refusals.count(), Refusals::kCapacity); ++i) {
    const std::string_view line = refusals[i];
    if (i != 0) text += "; ";
    text += line.substr(line.find(": ") + 2);
  }
  return text;
}

// The words of an 8-byte aligned blob.
std::vector<std::uint64_t> words_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  const std::string text((std::istreambuf_iterator<char>(file)), {});
  std::vector<std::uint64_t> words((text.size() + 7) / 8);
  std::ranges::copy(std::as_bytes(std::span(text)), std::as_writable_bytes(std::span(words)).begin());
  return words;
}

std::string row_of(const std::string& name, const std::string& cpus, const Reading& reading) {
  const UartDriver* const driver = reading.host.uart.driver;
  const std::string console = driver == nullptr ? "none" : std::string(driver->compatibles[0]);
  return "| " + name + " | " + cpus + " | " + console + " | " + verdict_of(reading.refusals) + " |\n";
}

}  // namespace
}  // namespace trees
}  // namespace cadastre

int main(int argc, char** argv) {
  using namespace cadastre::trees;
  std::string rows;
  unsigned capable = 0;
  unsigned accepted = 0;
  for (const std::string path : std::span(argv, static_cast<std::size_t>(argc)).subspan(1)) {
    Tree tree = read_tree(blob_of(words_of(path)));
    const std::string cpus = cpus_of(tree.root);
    const Loaded loaded = fill_in(tree);
    const std::vector<std::uint64_t> filled = write_tree(tree);
    const auto reading = std::make_unique<Reading>();
    read_machine(blob_of(filled), loaded, *reading);
    if (cpus.empty()) continue;
    ++capable;
    if (reading->refusals.empty()) ++accepted;
    rows += row_of(name_of(path), cpus, *reading);
  }
  std::cout << "Of " << argc - 1 << " trees " << capable << " are of boards whose CPUs have HYP mode; " << accepted
            << " of them are accepted.\n\n| tree | CPUs | console | |\n| --- | --- | --- | --- |\n"
            << rows;
}
