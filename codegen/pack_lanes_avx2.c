// pack_lanes.c for processors with AVX2.
#if defined(__x86_64__)
#define LANES_PACK lanes_pack_avx2
#include "codegen/pack_lanes.c"
#else
typedef int pack_lanes_avx2_is_empty;
#endif
