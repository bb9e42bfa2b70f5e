#include "base/mapping_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>
#include <string>

#include "base/check.h"
#include "base/error.h"

namespace moeopt {
namespace {

// One guarded mapping. Never freed, since the handler may be looking at it: used again instead.
struct Guarded {
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};  // 0: free
  std::atomic<bool> cut{false};
  std::string file;  // under `registry`
  Guarded* next = nullptr;
};

std::mutex registry;
std::atomic<Guarded*> first{nullptr};
std::atomic<int> cut_mappings{0};
std::uintptr_t page_bytes = 0;
struct sigaction previous {};

Guarded* find(std::uintptr_t address) {
  for (Guarded* g = first.load(std::memory_order_acquire); g != nullptr; g = g->next) {
    if (address < g->end.load(std::memory_order_acquire) &&
        address >= g->begin.load(std::memory_order_acquire)) {
      return g;
    }
  }
  return nullptr;
}

// Runs in the faulting thread: nothing but atomics and system calls.
void on_bus_error(int /*signal*/, siginfo_t* info, void* /*context*/) {
  const int saved_errno = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  Guarded* mapping = info->si_code == BUS_ADRERR ? find(address) : nullptr;
  if (mapping != nullptr) {
    // All that follows is past the end as well.
    const std::uintptr_t begin = address / page_bytes * page_bytes;
    const std::uintptr_t end = mapping->end.load(std::memory_order_acquire);
    // NOTE: the call of the system itself. A sanitizer takes mmap for a write to the pages, which
    // other threads may be reading: they find zeros, or come here as well.
    const long zeros =
        ::syscall(SYS_mmap, begin, end - begin, long{PROT_READ},
                  long{MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE}, -1L, 0L);
    if (zeros != -1) {
      if (!mapping->cut.exchange(true)) cut_mappings.fetch_add(1);
      errno = saved_errno;
      return;
    }
  }
  // Not ours: the same access faults again, for whoever would have had it.
  ::sigaction(SIGBUS, &previous, nullptr);
  errno = saved_errno;
}

void install() {
  page_bytes = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  struct sigaction action {};
  action.sa_sigaction = on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK;
  ::sigemptyset(&action.sa_mask);
  MOEOPT_CHECK(::sigaction(SIGBUS, &action, &previous) == 0);
}

}  // namespace

void guard_mapping(std::span<const std::byte> mapped, const std::filesystem::path& file) {
  static std::once_flag installed;
  std::call_once(installed, install);
  const std::lock_guard lock(registry);
  Guarded* entry = first.load(std::memory_order_acquire);
  while (entry != nullptr && entry->end.load(std::memory_order_relaxed) != 0) entry = entry->next;
  const bool fresh = entry == nullptr;
  if (fresh) {
    entry = new Guarded();  // NOLINT(cppcoreguidelines-owning-memory)
    entry->next = first.load(std::memory_order_relaxed);
  }
  entry->file = file.string();
  const auto begin = reinterpret_cast<std::uintptr_t>(mapped.data());
  entry->begin.store(begin, std::memory_order_release);
  entry->end.store(begin + mapped.size(), std::memory_order_release);
  if (fresh) first.store(entry, std::memory_order_release);
}

void unguard_mapping(std::span<const std::byte> mapped) {
  const std::lock_guard lock(registry);
  Guarded* entry = find(reinterpret_cast<std::uintptr_t>(mapped.data()));
  MOEOPT_CHECK(entry != nullptr);
  entry->end.store(0, std::memory_order_release);
  if (entry->cut.exchange(false)) cut_mappings.fetch_sub(1);
}

void throw_if_cut() {
  if (cut_mappings.load(std::memory_order_relaxed) == 0) return;
  const std::lock_guard lock(registry);
  for (const Guarded* g = first.load(std::memory_order_acquire); g != nullptr; g = g->next) {
    if (!g->cut.load()) continue;
    throw Error(ErrorCode::kIo, fmt::format("{}: was truncated while it was in use", g->file),
                "replace a model's files by renaming new ones into their place, and start again");
  }
}

}  // namespace moeopt
