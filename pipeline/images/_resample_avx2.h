/* Both passes with AVX2.
 *
 * A weight is two halves of 11 bits, of which one instruction multiplies and adds sixteen: old
 * pixels go in pairs, beside a pair of low halves and one of high ones. Functions are inlined and
 * short loops unrolled by force: else GCC keeps sums in memory, which costs a third.
 */
#include <immintrin.h>

#define AVX2 __attribute__((target("avx2")))
#define INLINE AVX2 static inline __attribute__((always_inline))
#define EACH_OF_4 _Pragma("GCC unroll 4")

enum { ROWS_AT_ONCE = 8, LANES = ROWS_AT_ONCE / 2, BYTES_AT_ONCE = 32 };

/* For each pair of weights its two low halves, then its two high ones: four, that is 8 bytes. */
static int16_t *halves_of(const Plan *plan) {
    const Py_ssize_t weights = plan->length * plan->taps;
    int16_t *halves = malloc(2 * weights * sizeof(int16_t));
    for (Py_ssize_t at = 0; halves && at < weights; at++) {
        int16_t *half = halves + at / 2 * 4 + at % 2;
        half[0] = (int16_t)(plan->weights[at] & LOW_MASK);
        half[2] = (int16_t)(plan->weights[at] >> LOW_BITS);
    }
    return halves;
}

/* What pairs of 16-bit pixels weigh, added to sums of their low and of their high halves. */
INLINE void weigh(__m256i pixels, const int16_t *half, __m256i *low, __m256i *high) {
    int32_t by_low, by_high;
    memcpy(&by_low, half, sizeof by_low);
    memcpy(&by_high, half + 2, sizeof by_high);
    *low = _mm256_add_epi32(*low, _mm256_madd_epi16(pixels, _mm256_set1_epi32(by_low)));
    *high = _mm256_add_epi32(*high, _mm256_madd_epi16(pixels, _mm256_set1_epi32(by_high)));
}

/* Four times eight sums to 32 bytes. `low` began at HALF. */
INLINE __m256i rounded(const __m256i low[4], const __m256i high[4]) {
    __m256i sum[4];
    EACH_OF_4
    for (int part = 0; part < 4; part++)
        sum[part] = _mm256_srai_epi32(
            _mm256_add_epi32(low[part], _mm256_slli_epi32(high[part], LOW_BITS)), BITS);
    return _mm256_packus_epi16(_mm256_packs_epi32(sum[0], sum[1]),
                               _mm256_packs_epi32(sum[2], sum[3]));
}

/* ---- along the rows ------------------------------------------------------------------------ */

/* Sixteen bytes of each of two rows. */
INLINE __m256i two_rows(const uint8_t *from, Py_ssize_t stride) {
    return _mm256_inserti128_si256(
        _mm256_castsi128_si256(_mm_loadu_si128((const __m128i *)from)),
        _mm_loadu_si128((const __m128i *)(from + stride)), 1);
}

/* One new pixel of each row, RGB and a zero: rows 0, 2, 4, 6 and then 1, 3, 5, 7. It is made of
 * `taps` old ones; 16 bytes are read for the last four or five. Rows are `stride` bytes apart. */
INLINE __m256i across_pixel(const uint8_t *from, Py_ssize_t stride, Py_ssize_t taps,
                            const int16_t *half) {
    /* Two pixels of each row, their channels side by side and widened to 16 bits. */
    const __m256i first = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1));
    const __m256i second = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1));
    const __m256i fifth = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(12, -1, -1, -1, 13, -1, -1, -1, 14, -1, -1, -1, -1, -1, -1, -1));
    __m256i low[LANES], high[LANES];
    EACH_OF_4
    for (int lane = 0; lane < LANES; lane++) {
        low[lane] = _mm256_set1_epi32(HALF);
        high[lane] = _mm256_setzero_si256();
    }
    for (; taps > 2 && taps != 5; taps -= 4, half += 8, from += 4 * CHANNELS)
        EACH_OF_4
        for (int lane = 0; lane < LANES; lane++) {
            const __m256i four = two_rows(from + 2 * lane * stride, stride);
            weigh(_mm256_shuffle_epi8(four, first), half, &low[lane], &high[lane]);
            weigh(_mm256_shuffle_epi8(four, second), half + 4, &low[lane], &high[lane]);
        }
    if (taps == 5)
        EACH_OF_4
        for (int lane = 0; lane < LANES; lane++) {
            const __m256i five = two_rows(from + 2 * lane * stride, stride);
            weigh(_mm256_shuffle_epi8(five, first), half, &low[lane], &high[lane]);
            weigh(_mm256_shuffle_epi8(five, second), half + 4, &low[lane], &high[lane]);
            weigh(_mm256_shuffle_epi8(five, fifth), half + 8, &low[lane], &high[lane]);
        }
    else if (taps > 0)
        EACH_OF_4
        for (int lane = 0; lane < LANES; lane++) {
            const __m256i two = two_rows(from + 2 * lane * stride, stride);
            weigh(_mm256_shuffle_epi8(two, first), half, &low[lane], &high[lane]);
        }
    return rounded(low, high);
}

/* Four new pixels of each row, which `across_pixel` made, to 12 bytes in 16: rows 0 and 1 in the
 * first register, and so on. */
INLINE void by_row(const __m256i pixel[4], __m256i row[4]) {
    const __m256i rgb = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    const __m256i ab = _mm256_unpacklo_epi32(pixel[0], pixel[1]);
    const __m256i cd = _mm256_unpacklo_epi32(pixel[2], pixel[3]);
    const __m256i AB = _mm256_unpackhi_epi32(pixel[0], pixel[1]);
    const __m256i CD = _mm256_unpackhi_epi32(pixel[2], pixel[3]);
    row[0] = _mm256_shuffle_epi8(_mm256_unpacklo_epi64(ab, cd), rgb);
    row[1] = _mm256_shuffle_epi8(_mm256_unpackhi_epi64(ab, cd), rgb);
    row[2] = _mm256_shuffle_epi8(_mm256_unpacklo_epi64(AB, CD), rgb);
    row[3] = _mm256_shuffle_epi8(_mm256_unpackhi_epi64(AB, CD), rgb);
}

/* Eight rows, old ones `old` and new ones `new` bytes apart. */
INLINE void across_rows(const Plan *plan, const int16_t *halves, const uint8_t *from,
                        Py_ssize_t old, uint8_t *to, Py_ssize_t new) {
    for (Py_ssize_t x = 0; x < plan->length; x += 4) {
        const Py_ssize_t left = plan->length - x;
        __m256i pixel[4], row[4];
        for (int next = 0; next < 4; next++) {
            const Py_ssize_t at = next < left ? x + next : x;
            pixel[next] = across_pixel(from + (Py_ssize_t)plan->first[at] * CHANNELS, old,
                                       plan->most, halves + 2 * at * plan->taps);
        }
        by_row(pixel, row);
        uint8_t *there = to + x * CHANNELS;
        EACH_OF_4
        for (int lane = 0; lane < LANES; lane++, there += 2 * new) {
            if (left > 5) { /* Four bytes too many, which the next pixels overwrite. */
                _mm_storeu_si128((__m128i *)there, _mm256_castsi256_si128(row[lane]));
                _mm_storeu_si128((__m128i *)(there + new), _mm256_extracti128_si256(row[lane], 1));
            } else {
                const size_t bytes = (left < 4 ? left : 4) * CHANNELS;
                uint8_t both[32];
                _mm256_storeu_si256((__m256i *)both, row[lane]);
                memcpy(there, both, bytes);
                memcpy(there + new, both + 16, bytes);
            }
        }
    }
}

/* Whole groups are read, beyond the end of a row: what lies there weighs nothing, but the last
 * rows are copied to where there is room behind them. Returns 0 where memory is short. */
AVX2 static int across_avx2(const Plan *plan, const uint8_t *from, Py_ssize_t rows,
                            Py_ssize_t width, uint8_t *to) {
    const Py_ssize_t old = width * CHANNELS, new = plan->length * CHANNELS;
    const Py_ssize_t reach = old + (plan->taps + 4) * CHANNELS + 16;
    int16_t *halves = halves_of(plan);
    uint8_t *last = calloc(ROWS_AT_ONCE, reach), *made = malloc(ROWS_AT_ONCE * new);
    const int room = halves && last && made;
    for (Py_ssize_t y = 0; room && y < rows; y += ROWS_AT_ONCE, from += ROWS_AT_ONCE * old) {
        const Py_ssize_t left = rows - y < ROWS_AT_ONCE ? rows - y : ROWS_AT_ONCE;
        if ((rows - y) * old >= (ROWS_AT_ONCE - 1) * old + reach) {
            across_rows(plan, halves, from, old, to + y * new, new);
            continue;
        }
        for (Py_ssize_t row = 0; row < left; row++)
            memcpy(last + row * reach, from + row * old, old);
        across_rows(plan, halves, last, reach, made, new);
        memcpy(to + y * new, made, left * new);
    }
    free(halves);
    free(last);
    free(made);
    return room;
}

/* ---- down the columns ---------------------------------------------------------------------- */

/* BYTES_AT_ONCE of one new row from `count` old ones, which are `bytes` apart. */
INLINE void down_bytes(const uint8_t *from, Py_ssize_t bytes, int32_t count, const int16_t *half,
                       uint8_t *to) {
    const __m256i zero = _mm256_setzero_si256();
    __m256i low[4], high[4];
    EACH_OF_4
    for (int part = 0; part < 4; part++) {
        low[part] = _mm256_set1_epi32(HALF);
        high[part] = zero;
    }
    for (int32_t tap = 0; tap < count; tap += 2, half += 4, from += 2 * bytes) {
        /* The last of an odd number weighs nothing beside itself. */
        const uint8_t *other = tap + 1 < count ? from + bytes : from;
        const __m256i one = _mm256_loadu_si256((const __m256i *)from);
        const __m256i two = _mm256_loadu_si256((const __m256i *)other);
        const __m256i even = _mm256_unpacklo_epi8(one, two), odd = _mm256_unpackhi_epi8(one, two);
        weigh(_mm256_unpacklo_epi8(even, zero), half, &low[0], &high[0]);
        weigh(_mm256_unpackhi_epi8(even, zero), half, &low[1], &high[1]);
        weigh(_mm256_unpacklo_epi8(odd, zero), half, &low[2], &high[2]);
        weigh(_mm256_unpackhi_epi8(odd, zero), half, &low[3], &high[3]);
    }
    _mm256_storeu_si256((__m256i *)to, rounded(low, high));
}

/* Returns 0 where memory is short. `bytes` is BYTES_AT_ONCE at least. */
AVX2 static int down_avx2(const Plan *plan, const uint8_t *from, Py_ssize_t bytes, uint8_t *to) {
    int16_t *halves = halves_of(plan);
    const int made = halves != NULL;
    for (Py_ssize_t y = 0; made && y < plan->length; y++) {
        const uint8_t *first = from + plan->first[y] * bytes;
        const int16_t *half = halves + 2 * y * plan->taps;
        for (Py_ssize_t begin = 0; begin < bytes; begin += BYTES_AT_ONCE) {
            /* The last ones are made together with some that are made already. */
            const Py_ssize_t at = begin + BYTES_AT_ONCE <= bytes ? begin : bytes - BYTES_AT_ONCE;
            down_bytes(first + at, bytes, plan->count[y], half, to + y * bytes + at);
        }
    }
    free(halves);
    return made;
}
