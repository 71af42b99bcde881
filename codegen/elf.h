// Looking into ELF files that we made or were given: where a symbol's bytes lie.
#ifndef TENON_CODEGEN_ELF_H
#define TENON_CODEGEN_ELF_H
#include "ir/base.h"

// The place in the file of the bytes of a defined data symbol of a 64-bit little-endian ELF object or executable; `size` bytes are there.
// False: no.
bool elf_symbol_offset(const void *image, size_t length, const char *name, size_t size, uint64_t *offset);

#endif
