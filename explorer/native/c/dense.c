// y (tokens, rows) = x (tokens, columns) · w (rows, columns)ᵀ for few tokens, sums in float32, rounded once. What takes
// time is reading w, so it is read once from memory, a block of rows at a time, and fetched ahead.
#include "vectors.h"

#define ROWS 4  // of a block

#define FUNCTION(name) name##_bf16
#define TYPE u16
#define WIDEN widen_bf16
#define WIDEN_ONE widen_one_bf16
#define NARROW narrow_bf16
#include "dense_rows.h"
#undef FUNCTION
#undef TYPE
#undef WIDEN
#undef WIDEN_ONE
#undef NARROW

#define FUNCTION(name) name##_f16
#define TYPE _Float16
#define WIDEN widen_f16
#define WIDEN_ONE widen_one_f16
#define NARROW narrow_f16
#include "dense_rows.h"
