// Matrix tiles in plain C, as the manual of their instructions describes them (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2:
// LDTILECFG, TILELOADD, TILESTORED, TDPBSSD, TDPBSUD, TDPBF16PS). It stands before a program's text, so that the code for tiles runs, slowly, on a
// machine without them. A shape that a product does not fit, or a tile that is used without one, stops the program.
#define TN_HAVE_TILES 1
typedef struct { unsigned char palette, start, reserved[14]; unsigned short bytes[16]; unsigned char rows[16]; } tiles_shape;
typedef struct { unsigned long thread; tiles_shape shape; unsigned char tile[8][16][64]; } tiles_state;

// Each thread has tiles of its own.
static __attribute__((unused)) tiles_state *tiles_mine(void) {
    static tiles_state states[64];
    unsigned long self;
    __asm__("mov %%fs:0, %0" : "=r"(self));
    for (int i = 0; i < 64; i++) {
        unsigned long none = 0;
        if (__atomic_load_n(&states[i].thread, __ATOMIC_ACQUIRE) == self) return &states[i];
        if (__atomic_compare_exchange_n(&states[i].thread, &none, self, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) return &states[i];
    }
    __builtin_trap();
}
static __attribute__((unused)) void tiles_need(int ok) {
    if (!ok) __builtin_trap();
}
static __attribute__((unused)) void tiles_zero(int t) {
    tiles_state *s = tiles_mine();
    tiles_need(s->shape.palette == 1 && s->shape.rows[t]);
    for (int r = 0; r < 16; r++)
        for (int b = 0; b < 64; b++) s->tile[t][r][b] = 0;
}
static __attribute__((unused)) void tiles_config(const void *p) {
    tiles_state *s = tiles_mine();
    for (unsigned long i = 0; i < sizeof s->shape; i++) ((unsigned char *)&s->shape)[i] = ((const unsigned char *)p)[i];
    for (int t = 0; t < 8; t++) {
        tiles_need(s->shape.rows[t] <= 16 && s->shape.bytes[t] <= 64);
        if (s->shape.rows[t]) tiles_zero(t);
    }
}
static __attribute__((unused)) void tiles_load(int t, const void *p, long stride) {
    tiles_zero(t);
    tiles_state *s = tiles_mine();
    for (int r = 0; r < s->shape.rows[t]; r++)
        for (int b = 0; b < s->shape.bytes[t]; b++) s->tile[t][r][b] = ((const unsigned char *)p)[r * stride + b];
}
static __attribute__((unused)) void tiles_store(int t, void *p, long stride) {
    tiles_state *s = tiles_mine();
    tiles_need(s->shape.palette == 1 && s->shape.rows[t]);
    for (int r = 0; r < s->shape.rows[t]; r++)
        for (int b = 0; b < s->shape.bytes[t]; b++) ((unsigned char *)p)[r * stride + b] = s->tile[t][r][b];
}
static __attribute__((unused)) void tiles_fit(const tiles_state *s, int c, int a, int b) {
    tiles_need(c != a && c != b && a != b && s->shape.rows[c] && s->shape.rows[c] == s->shape.rows[a] && s->shape.bytes[c] == s->shape.bytes[b] &&
               s->shape.bytes[a] == 4 * s->shape.rows[b]);
}
static __attribute__((unused)) void tiles_bytes(int c, int a, int b, int b_signed) {
    tiles_state *s = tiles_mine();
    tiles_fit(s, c, a, b);
    for (int m = 0; m < s->shape.rows[c]; m++)
        for (int n = 0; n < s->shape.bytes[c] / 4; n++) {
            unsigned sum;
            __builtin_memcpy(&sum, &s->tile[c][m][4 * n], 4);
            for (int k = 0; k < s->shape.bytes[a]; k++) {
                int x = (signed char)s->tile[a][m][k], w = s->tile[b][k / 4][4 * n + k % 4];
                sum += (unsigned)(x * (b_signed ? (signed char)w : w));
            }
            __builtin_memcpy(&s->tile[c][m][4 * n], &sum, 4);
        }
}
// Subnormals are zeros on the way in and out.
static __attribute__((unused)) float tiles_flush(float x) { return __builtin_fabsf(x) < 0x1p-126f ? __builtin_copysignf(0, x) : x; }
static __attribute__((unused)) float tiles_bf16_value(const unsigned char *p) {
    unsigned bits = (unsigned)p[0] << 16 | (unsigned)p[1] << 24;
    float x;
    __builtin_memcpy(&x, &bits, 4);
    return tiles_flush(x);
}
static __attribute__((unused)) void tiles_bf16(int c, int a, int b) {
    tiles_state *s = tiles_mine();
    tiles_fit(s, c, a, b);
    for (int m = 0; m < s->shape.rows[c]; m++)
        for (int n = 0; n < s->shape.bytes[c] / 4; n++) {
            float sum, part[2] = {0, 0};
            for (int k = 0; k < s->shape.bytes[a] / 2; k++)
                part[k % 2] = tiles_flush(__builtin_fmaf(tiles_bf16_value(&s->tile[a][m][2 * k]), tiles_bf16_value(&s->tile[b][k / 2][4 * n + k % 2 * 2]), part[k % 2]));
            __builtin_memcpy(&sum, &s->tile[c][m][4 * n], 4);
            sum = tiles_flush(tiles_flush(sum) + tiles_flush(part[0] + part[1]));
            __builtin_memcpy(&s->tile[c][m][4 * n], &sum, 4);
        }
}
#define tn_tile_config(p) tiles_config(p)
#define tn_tile_zero(t) tiles_zero(t)
#define tn_tile_load(t, p, stride) tiles_load(t, p, stride)
#define tn_tile_store(t, p, stride) tiles_store(t, p, stride)
#define tn_tile_dot_s8s8(c, x, w) tiles_bytes(c, x, w, 1)
#define tn_tile_dot_s8u8(c, x, w) tiles_bytes(c, x, w, 0)
#define tn_tile_dot_bf16(c, x, w) tiles_bf16(c, x, w)
#define tn_tile_release() (void)0
