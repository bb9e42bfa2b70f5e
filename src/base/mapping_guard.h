// Files that another process cuts short while they are mapped. Touching a page past the new end
// raises SIGBUS; the handler installed here puts zeros in its place and remembers the file, so that
// the reader goes on, and finds out by throw_if_cut() before it uses what came of those zeros.
// Used by MappedFile; the backend asks after every step. Any thread.
// Invariant: a SIGBUS outside the guarded mappings has the effect it would have without this file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace moeopt {

// From mmap on until before munmap; `mapped` is not empty.
void guard_mapping(std::span<const std::byte> mapped, const std::filesystem::path& file);
void unguard_mapping(std::span<const std::byte> mapped);

// Error(kIo) that names a guarded file of which pages were found missing. Costs one load when there
// is none.
void throw_if_cut();

}  // namespace moeopt
