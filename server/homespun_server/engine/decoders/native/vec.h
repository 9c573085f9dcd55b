// Vectors of W floats for the instruction set this file is compiled for, and the two operations GCC has no name for.
//
// Everything that is rounded goes through `fma` or plain operators, and the compiler may not contract or reorder
// (-ffp-contract=off, no -ffast-math): a row's result is then the same bit for bit whatever else is computed with it.
#pragma once
#include <cstdint>
#include <cstring>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX512VNNI__)
constexpr int W = 16, ROWS_A_TILE = 6, WEIGHT_BIAS = 128;
#elif defined(__AVX2__) && defined(__AVXVNNI__)
constexpr int W = 8, ROWS_A_TILE = 2, WEIGHT_BIAS = 128;
#elif defined(__AVX2__)
constexpr int W = 8, ROWS_A_TILE = 2, WEIGHT_BIAS = 0;
#else
constexpr int W = 4, ROWS_A_TILE = 2, WEIGHT_BIAS = 0;
#endif
// ROWS_A_TILE: rows of activations that a matrix tile keeps in registers. WEIGHT_BIAS: the dot product instructions of
// VNNI take unsigned times signed bytes, so weights are stored plus 128 there and the excess is subtracted again.

typedef float vf __attribute__((vector_size(4 * W)));
typedef int32_t vi __attribute__((vector_size(4 * W)));
typedef int8_t vb __attribute__((vector_size(W)));

static inline vf splat(float x) { return x - vf{}; }
static inline vf load(const float* p) {
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
static inline void store(float* p, vf v) { memcpy(p, &v, sizeof v); }

static inline vf fma(vf a, vf b, vf c) {
#if defined(__AVX512F__)
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__)
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
    return a * b + c;
#endif
}

// acc[c] += sum of weights[4 c + i] * x[i], i < 4, for W channels c. `weights`: 4 W bytes, biased; `x`: 4 signed bytes.
static inline vi dot4(vi acc, const uint8_t* weights, const int8_t* x) {
    int32_t four;
    memcpy(&four, x, 4);
#if defined(__AVX512VNNI__)
    return (vi)_mm512_dpbusd_epi32((__m512i)acc, _mm512_loadu_si512(weights), _mm512_set1_epi32(four));
#elif defined(__AVX2__) && defined(__AVXVNNI__)
    return (vi)_mm256_dpbusd_avx_epi32((__m256i)acc, _mm256_loadu_si256((const __m256i*)weights), _mm256_set1_epi32(four));
#elif defined(__AVX2__)
    // |x| * sign(w, x): at most 2 * 127 * 127, so that the sum of two products never saturates 16 bits.
    const __m256i xs = _mm256_set1_epi32(four), w = _mm256_loadu_si256((const __m256i*)weights);
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(xs), _mm256_sign_epi8(w, xs));
    return (vi)_mm256_add_epi32((__m256i)acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#else
    for (int c = 0; c < W; c++)
        for (int i = 0; i < 4; i++) acc[c] += (int32_t)(int8_t)weights[4 * c + i] * x[i];
    return acc;
#endif
}

// Keys and values are kept with 16 bits where the processor can widen them on the way: half the memory to read, and an
// error (2^-11) far below that of 8-bit weights.
#if defined(__F16C__)
typedef uint16_t half_t;
constexpr float HALF_MAX = 65504;
#else
typedef float half_t;
#endif

static inline vf widen(const half_t* p) {
#if defined(__AVX512F__)
    return (vf)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)p));
#elif defined(__F16C__)
    return (vf)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)p));
#else
    return load(p);
#endif
}

static inline void narrow(half_t* p, vf v) {
#if defined(__F16C__)
    v = v > HALF_MAX ? splat(HALF_MAX) : (v < -HALF_MAX ? splat(-HALF_MAX) : v);
#endif
#if defined(__AVX512F__)
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
    _mm_storeu_si128((__m128i*)p, _mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT));
#else
    store(p, v);
#endif
}

static inline vf max(vf a, vf b) { return a > b ? a : b; }
static inline float sum(vf v) {
    float total = 0;
    for (int i = 0; i < W; i++) total += v[i];
    return total;
}
static inline float largest(vf v) {
    float best = v[0];
    for (int i = 1; i < W; i++) best = v[i] > best ? v[i] : best;
    return best;
}
static inline vf absolute(vf v) { return (vf)((vi)v & 0x7fffffff); }
// To the nearest integer, ties to even, for |v| < 2^22.
static inline vf rounded(vf v) { return (v + 12582912.0f) - 12582912.0f; }

// exp, to about 2 ulp; 0 below -87.3 (so that masked scores vanish), capped above 88.
static inline vf exponential(vf x) {
    const vf low = splat(-87.33654f), clamped = x < low ? low : (x > 88.0f ? splat(88.0f) : x);
    const vf n = rounded(clamped * 1.44269504f);
    const vf r = fma(n, splat(2.12194440e-4f), fma(n, splat(-0.693359375f), clamped));
    vf p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    const vf e = fma(p, r * r, r) + 1.0f;
    const vf scaled = (vf)((vi)e + (__builtin_convertvector(n, vi) << 23));
    return x < low ? vf{} : scaled;
}
