// What every source here starts from: sixteen numbers at a time, and torch's pool of threads. Portable vector types of
// the C compiler: LLVM makes of them what the processor has, AVX-512, AVX2 or NEON.
#pragma once

typedef long long i64;
typedef unsigned int u32;
typedef unsigned short u16;

typedef float floats __attribute__((vector_size(64), aligned(4)));  // sixteen, at any address
typedef u32 words __attribute__((vector_size(64), aligned(4)));
typedef u16 shorts __attribute__((vector_size(32), aligned(2)));
typedef _Float16 halves __attribute__((vector_size(32), aligned(2)));

enum { LANES = 16 };

// torch_parallel_for: pieces from begin to end, at least `grain` by a thread
typedef int (*pool)(i64 begin, i64 end, i64 grain, void (*part)(i64 begin, i64 end, void *given), void *given);

void *malloc(unsigned long size);
void free(void *room);

static inline float sum_of(floats v) {
    float sum = 0;
    for (int i = 0; i < LANES; i++) sum += v[i];
    return sum;
}

// bfloat16 is the upper half of a float32
static inline floats widen_bf16(const u16 *p) {
    return (floats)(__builtin_convertvector(*(const shorts *)p, words) << 16);
}

static inline float widen_one_bf16(u16 v) {
    union { u32 bits; float value; } both = {(u32)v << 16};
    return both.value;
}

// to the nearest, ties to even; what is not a number stays none
static inline u16 narrow_bf16(float v) {
    union { float value; u32 bits; } both = {v};
    return v != v ? 0x7fc0 : (both.bits + 0x7fff + (both.bits >> 16 & 1)) >> 16;
}

static inline floats widen_f16(const _Float16 *p) { return __builtin_convertvector(*(const halves *)p, floats); }
static inline float widen_one_f16(_Float16 v) { return v; }
static inline _Float16 narrow_f16(float v) { return v; }
