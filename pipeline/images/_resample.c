/* Pillow's resampling, to the bit and several times as fast.
 *
 * Pillow (libImaging/Resample.c) weighs 8-bit pixels with integers of 22 fractional bits and
 * rounds once a pass. So does this. It is quick for two reasons: RGB is read as it lies, without
 * a fourth byte a pixel, and most CPUs do sixteen products at once (_resample_avx2.h). All sums
 * are modulo 2^32, as are the instructions'.
 */
#define Py_LIMITED_API 0x030b0000
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_AVX2 1
#else
#define HAVE_AVX2 0
#endif

enum { BITS = 22, HALF = 1 << (BITS - 1), LOW_BITS = 11, LOW_MASK = (1 << LOW_BITS) - 1 };
enum { CHANNELS = 3, CHUNK = 1024 };

/* ---- filters: PIL.Image.Resampling's numbers ------------------------------------------- */

static double box(double x) { return x > -0.5 && x <= 0.5 ? 1.0 : 0.0; }

static double bilinear(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double hamming(double x) {
    x = fabs(x);
    if (x == 0.0) return 1.0;
    if (x >= 1.0) return 0.0;
    x *= M_PI;
    return sin(x) / x * (0.54f + 0.46f * cos(x));
}

static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static double sinc(double x) {
    if (x == 0.0) return 1.0;
    x *= M_PI;
    return sin(x) / x;
}

static double lanczos(double x) { return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3) : 0.0; }

static const struct {
    double (*weight)(double);
    double support;
} FILTERS[] = {
    [1] = {lanczos, 3.0}, [2] = {bilinear, 1.0}, [3] = {bicubic, 2.0},
    [4] = {box, 0.5},     [5] = {hamming, 1.0},
};
enum { FILTER_COUNT = sizeof FILTERS / sizeof FILTERS[0] };

/* ---- weights ---------------------------------------------------------------------------- */

/* What each of `length` new pixels is made of: `count` old ones from `first` on. A row of
 * `weights` has `taps` of them, an even number, zeros behind the last; no count is over `most`. */
typedef struct {
    Py_ssize_t length, taps, most;
    int32_t *first, *count, *weights;
} Plan;

static void plan_free(Plan *plan) {
    free(plan->first);
    free(plan->count);
    free(plan->weights);
}

static int32_t fixed(double weight) {
    return (int32_t)(weight < 0 ? -0.5 + weight * (1 << BITS) : 0.5 + weight * (1 << BITS));
}

/* The new pixels `start` to `stop` of `full`. Returns 0 where memory is short. */
static int plan_make(Plan *plan, int kind, Py_ssize_t old, Py_ssize_t full, Py_ssize_t start,
                     Py_ssize_t stop) {
    const double scale = (double)old / full, stretch = scale < 1.0 ? 1.0 : scale;
    const double support = FILTERS[kind].support * stretch, squeeze = 1.0 / stretch;
    const Py_ssize_t most = (Py_ssize_t)ceil(support) * 2 + 1;
    plan->length = stop - start;
    plan->taps = most + most % 2;
    plan->most = 0;
    plan->first = malloc(plan->length * sizeof(int32_t));
    plan->count = malloc(plan->length * sizeof(int32_t));
    plan->weights = calloc(plan->length * plan->taps, sizeof(int32_t));
    double *exact = malloc(most * sizeof(double));
    const int made = plan->first && plan->count && plan->weights && exact;
    for (Py_ssize_t at = 0; made && at < plan->length; at++) {
        const double center = (start + at + 0.5) * scale;
        Py_ssize_t low = (Py_ssize_t)(center - support + 0.5);
        Py_ssize_t high = (Py_ssize_t)(center + support + 0.5);
        if (low < 0) low = 0;
        if (high > old) high = old;
        double sum = 0.0;
        for (Py_ssize_t tap = 0; tap < high - low; tap++) {
            exact[tap] = FILTERS[kind].weight((tap + low - center + 0.5) * squeeze);
            sum += exact[tap];
        }
        plan->first[at] = (int32_t)low;
        plan->count[at] = (int32_t)(high - low);
        if (high - low > plan->most) plan->most = high - low;
        for (Py_ssize_t tap = 0; tap < high - low; tap++)
            plan->weights[at * plan->taps + tap] = fixed(sum != 0.0 ? exact[tap] / sum : exact[tap]);
    }
    free(exact);
    return made;
}

static inline uint8_t clip(int32_t sum) {
    sum >>= BITS;
    return sum < 0 ? 0 : sum > 255 ? 255 : (uint8_t)sum;
}

/* ---- along the rows: (rows, width, 3) to (rows, plan.length, 3) --------------------------- */

static void across_plain(const Plan *plan, const uint8_t *from, Py_ssize_t rows, Py_ssize_t width,
                         uint8_t *to) {
    for (Py_ssize_t y = 0; y < rows; y++, from += width * CHANNELS) {
        for (Py_ssize_t x = 0; x < plan->length; x++, to += CHANNELS) {
            const uint8_t *pixel = from + (Py_ssize_t)plan->first[x] * CHANNELS;
            const int32_t *weight = plan->weights + x * plan->taps;
            uint32_t sum[CHANNELS] = {HALF, HALF, HALF};
            for (int32_t tap = 0; tap < plan->count[x]; tap++, pixel += CHANNELS)
                for (int c = 0; c < CHANNELS; c++) sum[c] += (uint32_t)weight[tap] * pixel[c];
            for (int c = 0; c < CHANNELS; c++) to[c] = clip((int32_t)sum[c]);
        }
    }
}


/* ---- down the columns: (height, bytes) to (plan.length, bytes) ----------------------------- */

static void down_plain(const Plan *plan, const uint8_t *from, Py_ssize_t bytes, uint8_t *to) {
    uint32_t sums[CHUNK];
    for (Py_ssize_t y = 0; y < plan->length; y++) {
        for (Py_ssize_t begin = 0; begin < bytes; begin += CHUNK) {
            const Py_ssize_t size = bytes - begin < CHUNK ? bytes - begin : CHUNK;
            for (Py_ssize_t i = 0; i < size; i++) sums[i] = HALF;
            for (int32_t tap = 0; tap < plan->count[y]; tap++) {
                const uint8_t *row = from + (plan->first[y] + tap) * bytes + begin;
                const uint32_t weight = (uint32_t)plan->weights[y * plan->taps + tap];
                for (Py_ssize_t i = 0; i < size; i++) sums[i] += weight * row[i];
            }
            for (Py_ssize_t i = 0; i < size; i++) to[y * bytes + begin + i] = clip((int32_t)sums[i]);
        }
    }
}


#if HAVE_AVX2
#include "_resample_avx2.h"
#endif

/* ---- Python ------------------------------------------------------------------------------ */

static int avx2 = 0;

static int pass(const Plan *plan, int axis, const uint8_t *from, Py_ssize_t height,
                Py_ssize_t width, uint8_t *to, int wide) {
    const Py_ssize_t bytes = width * CHANNELS;
#if HAVE_AVX2
    if (wide && axis == 1) return across_avx2(plan, from, height, width, to);
    if (wide && bytes >= BYTES_AT_ONCE) return down_avx2(plan, from, bytes, to);
#endif
    if (axis == 1) across_plain(plan, from, height, width, to);
    else down_plain(plan, from, bytes, to);
    return 1;
}

static PyObject *resample(PyObject *Py_UNUSED(self), PyObject *arguments) {
    Py_buffer from, to;
    Py_ssize_t height, width, full, start, stop;
    int axis, kind, wide = avx2;
    if (!PyArg_ParseTuple(arguments, "y*nnw*innni|p", &from, &height, &width, &to, &axis, &full,
                          &start, &stop, &kind, &wide))
        return NULL;
    const Py_ssize_t old = axis == 0 ? height : width, other = axis == 0 ? width : height;
    const char *wrong = NULL;
    if (kind < 1 || kind >= FILTER_COUNT)
        wrong = "no such filter";
    else if (axis < 0 || axis > 1)
        wrong = "axis is 0 or 1";
    else if (old < 1 || other < 1 || old > INT32_MAX / 8 || other > INT32_MAX / 8)
        wrong = "height and width are from 1 to 2^28";
    else if (start < 0 || stop <= start || full < stop || full > INT32_MAX / 8)
        wrong = "0 <= start < stop <= length <= 2^28";
    else if (from.len != height * width * CHANNELS)
        wrong = "the source has not height * width * 3 bytes";
    else if (to.len != other * (stop - start) * CHANNELS)
        wrong = "the target has not the size of what is asked for";
    int made = 0;
    if (wrong == NULL) {
        Plan plan;
        Py_BEGIN_ALLOW_THREADS
        made = plan_make(&plan, kind, old, full, start, stop) &&
               pass(&plan, axis, from.buf, height, width, to.buf, wide && avx2);
        plan_free(&plan);
        Py_END_ALLOW_THREADS
    }
    PyBuffer_Release(&from);
    PyBuffer_Release(&to);
    if (wrong != NULL) return PyErr_Format(PyExc_ValueError, "%s", wrong);
    if (!made) return PyErr_NoMemory();
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"resample", resample, METH_VARARGS,
     "resample(source, height, width, target, axis, length, start, stop, filter, wide=True)\n--\n\n"
     "One pass over uint8 (height, width, 3): along `axis` to `length`, of which `start` to `stop`\n"
     "are written to `target`. `wide` False leaves AVX2 unused."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_resample", "Pillow's resampling, to the bit.", 0, METHODS,
    NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__resample(void) {
#if HAVE_AVX2
    avx2 = __builtin_cpu_supports("avx2") != 0;
#endif
    PyObject *module = PyModule_Create(&MODULE);
    if (module && PyModule_AddObjectRef(module, "WIDE", avx2 ? Py_True : Py_False) < 0)
        Py_CLEAR(module);
    return module;
}
