// A reader of ELF symbol tables, for one purpose: a program is linked before its weights are packed, and the hash that ties the two
// together is written into `tn_model` afterwards. Every offset is checked, as in any reader of files.
#include "codegen/elf.h"

#include <elf.h>
#include <string.h>

typedef struct {
    const unsigned char *bytes;
    size_t length;
    Elf64_Ehdr header;
} Elf;

static bool inside(const Elf *elf, uint64_t offset, uint64_t size) { return offset <= elf->length && size <= elf->length - offset; }

static bool section_at(const Elf *elf, uint32_t index, Elf64_Shdr *section) {
    uint64_t offset;
    if (index >= elf->header.e_shnum || !size_mad(index, sizeof *section, elf->header.e_shoff, elf->length, &offset) ||
        !inside(elf, offset, sizeof *section))
        return false;
    memcpy(section, elf->bytes + offset, sizeof *section);
    return section->sh_type == SHT_NOBITS || inside(elf, section->sh_offset, section->sh_size);
}

static bool name_is(const Elf *elf, const Elf64_Shdr *strings, uint32_t at, const char *name) {
    size_t length = strlen(name) + 1;
    return at < strings->sh_size && length <= strings->sh_size - at && memcmp(elf->bytes + strings->sh_offset + at, name, length) == 0;
}

// Where a symbol's bytes lie: its section's place plus its distance from the section's address (0 in an object).
static bool place_of(const Elf *elf, const Elf64_Sym *symbol, size_t size, uint64_t *offset) {
    Elf64_Shdr section;
    if (symbol->st_shndx == SHN_UNDEF || !section_at(elf, symbol->st_shndx, &section) || section.sh_type == SHT_NOBITS) return false;
    uint64_t base = elf->header.e_type == ET_REL ? 0 : section.sh_addr;
    if (symbol->st_value < base || symbol->st_value - base > section.sh_size || size > section.sh_size - (symbol->st_value - base))
        return false;
    *offset = section.sh_offset + (symbol->st_value - base);
    return true;
}

bool elf_symbol_offset(const void *image, size_t length, const char *name, size_t size, uint64_t *offset) {
    Elf elf = {.bytes = image, .length = length};
    if (length < sizeof elf.header) return false;
    memcpy(&elf.header, image, sizeof elf.header);
    if (memcmp(elf.header.e_ident, ELFMAG, SELFMAG) != 0 || elf.header.e_ident[EI_CLASS] != ELFCLASS64 ||
        elf.header.e_ident[EI_DATA] != ELFDATA2LSB || elf.header.e_shentsize != sizeof(Elf64_Shdr))
        return false;
    for (uint32_t i = 0; i < elf.header.e_shnum; i++) {
        Elf64_Shdr table, strings;
        if (!section_at(&elf, i, &table) || table.sh_type != SHT_SYMTAB || !section_at(&elf, table.sh_link, &strings) ||
            strings.sh_type == SHT_NOBITS)
            continue;
        for (uint64_t at = 0; at + sizeof(Elf64_Sym) <= table.sh_size; at += sizeof(Elf64_Sym)) {
            Elf64_Sym symbol;
            memcpy(&symbol, elf.bytes + table.sh_offset + at, sizeof symbol);
            if (name_is(&elf, &strings, symbol.st_name, name) && place_of(&elf, &symbol, size, offset)) return true;
        }
    }
    return false;
}
