#ifndef GODWIT_BLOCK_CHECKSUMS_AVX2_H
#define GODWIT_BLOCK_CHECKSUMS_AVX2_H

#include <stddef.h>
#include <stdint.h>

/// `godwit_block_checksums` for processors with AVX2.
void godwit_block_checksums_avx2(const void *bytes, size_t block_size, size_t block_count, uint32_t *checksums);

#endif
