// seeds DIRECTORY: writes inputs for the fuzz targets to begin with, DIRECTORY/NAME/FILE.
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "tests/unit/dtb_builder.hh"

namespace cadastre {

namespace {

class Corpus {
 public:
  Corpus(const std::filesystem::path& root, const char* name) : directory_(root / name) {
    std::filesystem::create_directories(directory_);
  }
  void add(const char* name, const Blob& tree, const std::string& files = "") const {
    const auto bytes = tree.bytes();
    add(name, std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) + files);
  }
  void add(const std::string& name, const std::string& bytes) const {
    std::ofstream(directory_ / name, std::ios::binary) << bytes;
  }

 private:
  std::filesystem::path directory_;
};

void add_machines(const Corpus& corpus) {
  corpus.add("plain", virt_dtb());
  corpus.add("large", virt_dtb({.cpus = 4, .memory = 6ULL << 30}));
  corpus.add("numa", virt_dtb({.cpus = 4, .memory = 2ULL << 30, .numa_nodes = 2}));
  const auto reserved = [](DtbBuilder& b) {
    b.begin("reserved-memory").cells("#address-cells", {2}).cells("#size-cells", {2}).flag("ranges");
    b.begin("fixed@50000000").reg(0x5000'0000, 0x1000).flag("no-map").end();
    b.begin("cma").text("compatible", "shared-dma-pool").flag("reusable").cells("size", {0, 0x100'0000});
    b.cells("alignment", {0, 0x20'0000}).cells("alloc-ranges", {0, 0x4000'0000, 0, 0x1000'0000}).end().end();
    b.begin("soc").cells("#address-cells", {1}).cells("#size-cells", {1}).cells("ranges", {0, 0, 0x1000'0000});
    b.cells("dma-ranges", {0, 0, 0x4000'0000, 0x3000'0000}).end();
    b.begin("aliases").text("serial0", "/pl011@9000000").end();
  };
  const auto chosen = [](DtbBuilder& b) {
    b.text("bootargs", "quiet").cells("linux,initrd-start", {0x4800'0000}).cells("linux,initrd-end", {0, 0x4810'0000});
  };
  corpus.add("reserved", virt_dtb({.more = reserved, .more_chosen = chosen, .reservations = [](DtbBuilder& b) {
                                     b.reserve(0x4800'0000, 0x3000);
                                   }}));
}

void word(std::string& file, std::size_t offset, std::uint32_t value) {
  for (std::size_t i = 0; i < 4; ++i) file.at(offset + i) = static_cast<char>(value >> (8 * i));
}

std::string zimage() {
  std::string file(0x100, '\1');
  word(file, 0x24, 0x016f'2818);
  word(file, 0x28, 0);
  word(file, 0x2c, 0x100);
  word(file, 0x34, 0x4545'4545);
  word(file, 0x38, 0x40);
  const std::uint32_t tags[] = {6, 0x5a53'4c4b, 0xf8, 0x2000, 0x8000, 0x1'0000};
  for (std::size_t i = 0; i < 6; ++i) word(file, 0x40 + (4 * i), tags[i]);
  word(file, 0xf8, 0x10'0000);
  return file;
}

std::string elf() {
  std::string file(0x80, '\0');
  const std::uint32_t header[] = {0x464c'457f, 0x0001'0101, 0, 0, 0x0028'0002, 1,
                                  0x4000'8000, 52,          0, 0, 0x0020'0034, 1};
  for (std::size_t i = 0; i < std::size(header); ++i) word(file, 4 * i, header[i]);
  const std::uint32_t program[] = {1, 0x60, 0x4000'8000, 0x4000'8000, 0x20, 0x2000};
  for (std::size_t i = 0; i < std::size(program); ++i) word(file, 52 + (4 * i), program[i]);
  return file;
}

Blob guests(unsigned count, std::uint32_t kernel_size, bool has_initrd) {
  return virt_dtb({.more = [=](DtbBuilder& b) {
    b.begin("hypervisor").text("compatible", "cadastre,hypervisor").text("bootargs", "batch");
    for (unsigned i = 0; i < count; ++i) {
      b.begin("guest" + std::to_string(i)).text("compatible", "cadastre,guest");
      b.cells("memory", {0, 0x400'0000}).cells("cpus", {1 + i});
      b.begin("kernel").text("file", "kernel").text("bootargs", "console=ttyAMA0").reg(0x5000'0000, kernel_size).end();
      if (has_initrd) b.begin("initrd").text("file", "initrd").reg(0x5100'0000, 0x1234).end();
      b.end();
    }
    b.end();
  }});
}

Blob xen_guest() {
  return virt_dtb({.more_chosen = [](DtbBuilder& b) {
    b.begin("domU1").text("compatible", "xen,domain").cells("#address-cells", {2}).cells("#size-cells", {2});
    b.cells("memory", {0, 0x2'0000}).cells("cpus", {1}).flag("vpl011");
    b.begin("module@50000000").texts("compatible", {"multiboot,kernel", "multiboot,module"});
    b.reg(0x5000'0000, 0x100).text("bootargs", "console=ttyAMA0").end();
    b.begin("module@52000000").text("compatible", "multiboot,ramdisk").reg(0x5200'0000, 0x2000).end().end();
  }});
}

void add_configurations(const Corpus& corpus) {
  corpus.add("xen", xen_guest(), zimage());
  corpus.add("zimage", guests(1, 0x100, true), zimage());
  corpus.add("elf", guests(1, 0x80, true), elf());
  corpus.add("raw", guests(2, 0x100, false), std::string(0x100, '\1'));
}

// Where every byte is a choice, any bytes will do: some for long sequences of operations to begin with.
void add_choices(const Corpus& corpus) {
  std::mt19937 random(1);  // NOLINT(bugprone-random-generator-seed): the same corpus each time
  for (unsigned i = 0; i < 16; ++i) {
    std::string bytes(256U << i % 5, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    corpus.add("choices" + std::to_string(i), bytes);
  }
}

}  // namespace
}  // namespace cadastre

int main(int argc, char** argv) {
  if (argc != 2) return 1;
  const std::filesystem::path root(argv[1]);
  cadastre::add_machines(cadastre::Corpus(root, "dtb"));
  cadastre::add_configurations(cadastre::Corpus(root, "config"));
  for (const char* target : {"memblock", "pages", "slab"}) cadastre::add_choices(cadastre::Corpus(root, target));
  return 0;
}
