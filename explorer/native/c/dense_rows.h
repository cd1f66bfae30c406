// The product for one type of weights: FUNCTION(name), TYPE, and WIDEN, WIDEN_ONE, NARROW between TYPE and float32.

typedef struct {
    const float *x;
    const TYPE *w;
    TYPE *y;
    i64 tokens, rows, columns;
} FUNCTION(given);

// One row after the other, where fewer than ROWS are left.
static float FUNCTION(row)(const float *x, const TYPE *w, i64 from, i64 columns) {
    float sum = 0;
    for (i64 c = from; c < columns; c++) sum += WIDEN_ONE(w[c]) * x[c];
    return sum;
}

static void FUNCTION(part)(i64 begin, i64 end, void *pointer) {
    const FUNCTION(given) *g = pointer;
    const i64 n = g->columns, vectors = n / LANES * LANES;
    for (i64 block = begin; block < end; block++) {
        const i64 first = block * ROWS, rows = g->rows - first < ROWS ? g->rows - first : ROWS;
        const TYPE *w = g->w + first * n;
        for (i64 t = 0; t < g->tokens; t++) {
            const float *x = g->x + t * n;
            TYPE *y = g->y + t * g->rows + first;
            i64 c = 0;
            floats sums[ROWS] = {};
            if (rows == ROWS) {
                for (; c + 2 * LANES <= vectors; c += 2 * LANES) {
                    for (int k = 0; k < ROWS; k++) {
                        const TYPE *p = w + k * n + c;
                        __builtin_prefetch(p + ROWS * n);  // the block that comes next
                        sums[k] += WIDEN(p) * *(const floats *)(x + c);
                        sums[k] += WIDEN(p + LANES) * *(const floats *)(x + c + LANES);
                    }
                }
                for (; c < vectors; c += LANES)
                    for (int k = 0; k < ROWS; k++) sums[k] += WIDEN(w + k * n + c) * *(const floats *)(x + c);
            }
            for (i64 k = 0; k < rows; k++) {
                const float rest = FUNCTION(row)(x, w + k * n, c, n);
                y[k] = NARROW(rows == ROWS ? sum_of(sums[k]) + rest : rest);
            }
        }
    }
}

void FUNCTION(dense)(const TYPE *x, const TYPE *w, TYPE *y, i64 tokens, i64 rows, i64 columns, i64 grain, pool all) {
    float *wide = malloc(tokens * columns * sizeof(float));
    for (i64 i = 0; i < tokens * columns; i++) wide[i] = WIDEN_ONE(x[i]);
    FUNCTION(given) given = {wide, w, y, tokens, rows, columns};
    all(0, (rows + ROWS - 1) / ROWS, grain, FUNCTION(part), &given);
    free(wide);
}
