// The assembler puts the files in as they are (.incbin); the build says where they lie.
#include "codegen/embedded.h"

#include <string.h>

#define EMBED(name, path)                                                                                                                  \
    __asm__(".pushsection .rodata\n.globl " #name "\n.globl " #name "_end\n" #name ":\n.incbin \"" path "\"\n" #name                       \
            "_end:\n.byte 0\n.popsection\n");                                                                                              \
    extern const char name[], name##_end[]

EMBED(embedded_runtime_text, TENON_RUNTIME_AMALGAM);
EMBED(embedded_tenon_h, TENON_RUNTIME_FOLDER "/tenon.h");
EMBED(embedded_abi_h, TENON_RUNTIME_FOLDER "/abi.h");

void embedded_runtime(Text *out) { text_add(out, embedded_runtime_text, (size_t)(embedded_runtime_text_end - embedded_runtime_text)); }

void embedded_header(Text *out) {
    static const char include[] = "#include \"runtime/abi.h\"\n";
    const char *at = strstr(embedded_tenon_h, include);
    if (!at) {
        text_add(out, embedded_tenon_h, (size_t)(embedded_tenon_h_end - embedded_tenon_h));
        return;
    }
    text_add(out, embedded_tenon_h, (size_t)(at - embedded_tenon_h));
    text_add(out, embedded_abi_h, (size_t)(embedded_abi_h_end - embedded_abi_h));
    at += sizeof include - 1;
    text_add(out, at, (size_t)(embedded_tenon_h_end - at));
}
