// Reads every tensor that an opened weight file offers, as the compiler would.
#include "ir/dequant.h"
#include "ir/provider.h"

#include <stdlib.h>

static inline void fuzz_provider(Provider *provider) {
    unsigned sum = 0;
    for (int i = 0; i < provider->count; i++) {
        const TensorInfo *tensor = &provider->tensors[i];
        uint64_t bytes;
        if (provider->find(provider, tensor->name) == NULL || !type_bytes(&tensor->type, &bytes)) abort();
        for (uint64_t at = 0; at < bytes; at++) sum += ((const unsigned char *)tensor->bytes)[at];
        int64_t n = type_row_elements(&tensor->type), block = dtype_info[tensor->type.dtype].block;
        if (bytes == 0 || n > 1 << 16 || block == 0 || n % block) continue;
        float *values = malloc(sizeof(float) * (size_t)n);
        dequantize_row(tensor->type.dtype, tensor->bytes, values, n);
        free(values);
    }
    static volatile unsigned sink;
    sink = sum;
    (void)sink;
    provider->close(provider);
}
