#include "hyp/config/command_line.hh"

#include <string>
#include <vector>

#include "tests/unit/test.hh"

namespace cadastre {
namespace {

TEST_CASE("words are keys, or keys with values") {
  const CommandLine line("  memblock=debug batch   reset-limit=3 ");
  CHECK_EQ(line.value("memblock"), "debug");
  CHECK(line.has("batch"));
  CHECK_FALSE(line.value("batch").has_value());
  CHECK_EQ(line.size("reset-limit"), 3);
  CHECK_FALSE(line.has("reset"));
  std::vector<std::string_view> keys;
  for (const CommandLine::Word& word : line) keys.push_back(word.key);
  CHECK_EQ(keys.size(), 3);
}

TEST_CASE("quotes keep spaces, around the value or around the word") {
  const CommandLine line(R"(a="x y" "b=p q" c= d="")");
  CHECK_EQ(line.value("a"), "x y");
  CHECK_EQ(line.value("b"), "p q");
  CHECK_EQ(line.value("c"), "");
  CHECK_EQ(line.value("d"), "");
}

TEST_CASE("of a key given twice the last one counts") {
  CHECK_EQ(CommandLine("a=1 b=2 a=3").value("a"), "3");
}

TEST_CASE("a line of nothing, of spaces or with an open quote has an end") {
  CHECK(CommandLine().begin() == CommandLine().end());
  CHECK_FALSE(CommandLine("   ").has(""));
  CHECK_EQ(CommandLine("a=\"open").value("a"), "open");
  CHECK_EQ(CommandLine("\"").begin()->key, "");
}

TEST_CASE("every word that there is may be on the line; another one, or another value, is refused by its name") {
  const auto reasons = [](std::string_view text) {
    Refusals refusals;
    check_command_line(CommandLine(text), refusals);
    return refusals;
  };
  CHECK(reasons("").empty());
  CHECK(reasons(
            "batch bench memblock=debug cma=64M selftest=mm selftest=walk seed=0x1 check=walk walk-address=0xc0208000 "
            "reset-limit=3 debug=slab,poison own-cost=60-70")
            .empty());
  for (const char* wrong : {"nonsense",        "batch=1",        "bench=", "memblock",  "memblock=yes", "cma",
                            "selftest",        "selftest=nm",    "seed=x", "seed",      "seed=4G",      "check=wak",
                            "walk-address=zz", "reset-limit=-1", "debug",  "debug=all", "own-cost",     "own-cost=5",
                            "own-cost=7-7",    "own-cost=9-x",   "=",      "\""}) {
    CAPTURE(wrong);
    const Refusals refusals = reasons(std::string("batch ") + wrong);
    REQUIRE_EQ(refusals.count(), 1);
    CHECK(refusals[0].starts_with("/hypervisor: bootargs: "));
  }
  CHECK_EQ(reasons("sed=1")[0], "/hypervisor: bootargs: unknown word 'sed': correct it or remove it");
  CHECK_EQ(reasons("seed=one")[0],
           "/hypervisor: bootargs: 'seed' has another value than it can: write seed=N with a number of 32 bits");
}

TEST_CASE("debug= lists the checks that are wanted, and knows no others") {
  CHECK(parse_debug("poison,history,slab") == DebugChecks{.poison = true, .history = true, .slab = true});
  CHECK(parse_debug("history") == DebugChecks{.history = true});
  CHECK(parse_debug("slab,poison,slab") == DebugChecks{.poison = true, .slab = true});
  for (const std::string_view wrong : {"", ",", "poison,", ",slab", "all", "poison slab", "Poison", "poison,,slab"}) {
    CHECK_FALSE(parse_debug(wrong));
  }
}

TEST_CASE("sizes are decimal or hexadecimal, with a suffix") {
  CHECK_EQ(parse_size("4096"), 4096);
  CHECK_EQ(parse_size("0x1000"), 4096);
  CHECK_EQ(parse_size("0xFfffFfffFfffFfff"), UINT64_MAX);
  CHECK_EQ(parse_size("16M"), 16U << 20);
  CHECK_EQ(parse_size("6g"), 6ULL << 30);
  for (const char* text : {"", "M", "12x", "-1", "1MM", "0x", "18446744073709551616", "0x10000000000000000", "0x1g2",
                           "0xffffffffffffffffK"}) {
    CHECK_FALSE(parse_size(text).has_value());
  }
}

TEST_CASE("a placement is a size, a base and a limit") {
  const Placement all = parse_placement("16M@0x40000000-1G").value_or(Placement());
  CHECK_EQ(all.size, 16U << 20);
  CHECK_EQ(all.base, 0x4000'0000);
  CHECK_EQ(all.limit, 1U << 30);
  const Placement lone = parse_placement("8M").value_or(Placement());
  CHECK_EQ(lone.size, 8U << 20);
  CHECK_FALSE(lone.base.has_value());
  for (const char* text : {"", "@1", "8M@", "8M@1-", "8M@1-x"}) CHECK_FALSE(parse_placement(text).has_value());
}

}  // namespace
}  // namespace cadastre
