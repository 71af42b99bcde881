// The prelude's parts, as they stand in the tree, held in the compiler as text.
#define EMBED(name, path)                                                                                                                    \
    __asm__(".section .rodata\n.global prelude_" name "\nprelude_" name ":\n.incbin \"" TENON_SOURCE "/" path "\"\n.byte 0\n.previous\n");
EMBED("abi", "runtime/abi.h")
EMBED("vector", "codegen/prelude/vector.h")
EMBED("math", "codegen/prelude/math.h")
EMBED("rows", "codegen/prelude/rows.h")
EMBED("attend", "codegen/prelude/attend.h")
EMBED("cache", "codegen/prelude/cache.h")
EMBED("attend_pairs", "codegen/prelude/attend_pairs.h")
EMBED("product", "codegen/prelude/product.h")
EMBED("product_int", "codegen/prelude/product_int.h")
EMBED("product_bf16", "codegen/prelude/product_bf16.h")
EMBED("product_amx", "codegen/prelude/product_amx.h")
EMBED("isa_clang", "codegen/prelude/isa_clang.h")
EMBED("isa_gcc", "codegen/prelude/isa_gcc.h")
EMBED("supported", "codegen/prelude/supported.h")
EMBED("probes", "codegen/prelude/probes.h")
EMBED("nvptx", "codegen/prelude/nvptx.h")
