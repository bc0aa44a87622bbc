// The same XXH3 as in BlockChecksums.c, compiled for AVX2: every block that is read or written passes through it, and it
// takes half the time that the baseline of x86-64 takes. A file of its own, because xxhash chooses its vectors as it is
// included.
#include "BlockChecksumsAVX2.h"

#if defined(__x86_64__)
// What xxhash.h includes comes first, so that the attribute below meets its own functions only.
#include <immintrin.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_AVX2
#include <xxhash.h>

void godwit_block_checksums_avx2(const void *bytes, size_t block_size, size_t block_count, uint32_t *checksums) {
    const uint8_t *position = bytes;
    for (size_t index = 0; index < block_count; index++) {
        checksums[index] = (uint32_t)XXH3_64bits(position, block_size);
        position += block_size;
    }
}
#pragma clang attribute pop
#endif
