// The constant provider: through it weights are looked up and read, whatever file they come from.
#ifndef TENON_IR_PROVIDER_H
#define TENON_IR_PROVIDER_H
#include "ir/ir.h"

typedef struct {
    const char *name;
    Type type;             // sizes outermost first, as a row-major array [out, in]
    const void *bytes;     // in the mapped file; all bytes of the type lie inside it (checked when opened)
    const char *file;      // for messages
    uint64_t offset;       // of the bytes in the file
} TensorInfo;

typedef struct Provider Provider;
struct Provider {
    const TensorInfo *(*find)(Provider *provider, const char *name);   // NULL when there is none
    int count;
    const TensorInfo *tensors;             // sorted by name; of declared ones, in the order in which they were
    // NULL, or: there are no files, and a tensor is what its users say. It grows to hold a type of the same rank; it has no bytes.
    const TensorInfo *(*declare)(Provider *provider, const char *name, const Type *type);
    void (*close)(Provider *provider);
};
#endif
