#include "CLinux.h"

#include "BlockChecksumsAVX2.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t godwit_xxh3_64(const void *bytes, size_t count) { return XXH3_64bits(bytes, count); }

uint64_t godwit_xxh3_64_seeded(const void *bytes, size_t count, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes, count, seed);
}

void godwit_block_checksums(const void *bytes, size_t block_size, size_t block_count, uint32_t *checksums) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) {
        godwit_block_checksums_avx2(bytes, block_size, block_count, checksums);
        return;
    }
#endif
    const uint8_t *position = bytes;
    for (size_t index = 0; index < block_count; index++) {
        checksums[index] = (uint32_t)XXH3_64bits(position, block_size);
        position += block_size;
    }
}
