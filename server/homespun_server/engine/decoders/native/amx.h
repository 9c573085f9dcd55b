// Products of BLOCK rows at once in the tile registers of AMX: 1.4 to 1.7 times as fast as VNNI's dot products. Sums
// inside a group are exact integers there as well, and the groups of a row are added up in the same order, so that a
// row's bits don't tell how it was computed.
#pragma once
#include "matrix.h"

#if defined(__AMX_INT8__)
#include <sys/syscall.h>
#include <unistd.h>

static_assert(GROUP == 64 && W == 16 && BLOCK == 16, "one instruction: 16 rows times 16 outputs, 64 inputs each");

// Linux gives tiles to processes that ask for them (XFEATURE_XTILEDATA); it may refuse.
static bool may_use_tiles() {
    constexpr long ARCH_REQ_XCOMP_PERM = 0x1023, XTILEDATA = 18;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
}

struct alignas(64) TileShapes {  // six tiles of 16 rows of 64 bytes
    uint8_t palette = 1, first_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16};
};
static const TileShapes SHAPES;  // not on the stack: GCC takes the instruction to read 8 bytes, and leaves out the rest

class Tiles {  // of this thread, while it multiplies: kept longer, every change of threads would save them
   public:
    Tiles() { _tile_loadconfig(&SHAPES); }
    ~Tiles() { _tile_release(); }
};

// A macro, since the numbers of tiles are part of the instructions.
#define TILE_PRODUCT(to, a, b, rows, row_stride, outputs, stride) \
    do {                                                          \
        _tile_zero(to);                                           \
        _tile_loadd(a, rows, row_stride);                         \
        _tile_loadd(b, outputs, stride);                          \
        _tile_dpbsud(to, a, b);                                   \
    } while (false)

// BLOCK rows times one panel. A group's sums are computed, stored and added up in three steps, with those of two other
// groups in between, since each waits for the one before: even groups in tiles 0 to 2, odd ones in 3 to 5.
template <typename Emit>
static void multiply_block(const Matrix& m, int t, int panel, const Quantised& x, int row, const Emit& emit) {
    const int groups = m.groups;
    const int8_t* const values = x.values.data + (size_t)row * groups * GROUP;
    const size_t first = Quantised::first_scale(row, groups);
    const uint8_t* const weights = m.tile(t) + panel * 4 * W;
    const float* const weight_scales = m.tile_scales(t) + panel * W;
    alignas(64) int32_t even[BLOCK * W], odd[BLOCK * W];
    vf result[BLOCK] = {};
    const auto add = [&](int g, const int32_t* sums) {
        const vf scale = load(weight_scales + g * TILE);
        const float* const scales = x.scales.data + first + g * BLOCK;
        const int32_t* const excess = x.excess.data + first + g * BLOCK;
#pragma GCC unroll 16
        for (int r = 0; r < BLOCK; r++) {
            vi sum;
            memcpy(&sum, sums + r * W, sizeof sum);
            result[r] = fma(__builtin_convertvector(sum - excess[r], vf), scale * scales[r], result[r]);
        }
    };
    for (int g = 0; g < groups + 2; g += 2) {
        if (g < groups)
            TILE_PRODUCT(0, 1, 2, values + g * GROUP, groups * GROUP, weights + (size_t)g * GROUP * TILE, 4 * TILE);
        if (0 < g && g <= groups) _tile_stored(3, odd, 4 * W);
        if (0 < g) add(g - 2, even);
        if (g + 1 < groups)
            TILE_PRODUCT(3, 4, 5, values + (g + 1) * GROUP, groups * GROUP, weights + (size_t)(g + 1) * GROUP * TILE,
                         4 * TILE);
        if (g < groups) _tile_stored(0, even, 4 * W);
        if (0 < g && g <= groups) add(g - 1, odd);
    }
#pragma GCC unroll 16
    for (int r = 0; r < BLOCK; r++) emit(row + r, t * TILE + panel * W, result[r]);  // unrolled, they stay in registers
}

// Returns the first row that is left to `multiply_rows`.
template <typename Emit>
static int multiply_blocks(const Matrix& m, int t, const Quantised& x, int first, int last, const Emit& emit) {
    const int rest = last - (last - first) % BLOCK;
    if (rest == first) return first;
    const Tiles tiles;
    for (int panel = 0; panel < PANELS; panel++)
        for (int row = first; row < rest; row += BLOCK) multiply_block(m, t, panel, x, row, emit);
    return rest;
}
#else
static bool may_use_tiles() { return true; }
template <typename Emit>
static int multiply_blocks(const Matrix&, int, const Quantised&, int first, int, const Emit&) {
    return first;
}
#endif

template <typename Emit>
static void multiply(const Matrix& m, int t, const Quantised& x, int first, int last, const Emit& emit) {
    int row = multiply_blocks(m, t, x, first, last, emit);
    for (; row + ROWS_A_TILE <= last; row += ROWS_A_TILE) multiply_rows<ROWS_A_TILE>(m, t, x, row, emit);
    multiply_rest<ROWS_A_TILE - 1>(m, t, x, row, last - row, emit);
}
