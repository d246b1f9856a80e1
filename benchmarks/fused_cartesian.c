/* Products of a Cartesian scan with several coils, mask and maps applied while the cache holds them.

   y_c = m F (s_c x), x = sum_c conj(s_c) F^H (m y_c), unscaled transforms of N = planes * plane points, by MKL's DFTI
   as libtorch exports it. "whole": a coil image at a time. "slabs": plane by plane along the last axes, then blocks of
   neighbouring points along the first. */
#include <string.h>

typedef void *Handle;
extern long DftiCreateDescriptor_s_1d(Handle *, int, long), DftiCreateDescriptor_s_md(Handle *, int, long, long *);
extern long DftiSetValue(Handle, int, ...), DftiCommitDescriptor(Handle);
extern long DftiComputeForward(Handle, void *, ...), DftiComputeBackward(Handle, void *, ...);
enum { COMPLEX = 32, TRANSFORMS = 7, IN_STRIDES = 12, OUT_STRIDES = 13, IN_DISTANCE = 14, OUT_DISTANCE = 15 };

/* Along all axes of an array; of one axis, of as many rows at once. */
Handle transform(int rank, long *shape, long rows) {
    Handle h;
    if (rank > 1) DftiCreateDescriptor_s_md(&h, COMPLEX, rank, shape);
    else DftiCreateDescriptor_s_1d(&h, COMPLEX, shape[0]);
    DftiSetValue(h, TRANSFORMS, rows);
    DftiSetValue(h, IN_DISTANCE, shape[0]);
    DftiSetValue(h, OUT_DISTANCE, shape[0]);
    DftiCommitDescriptor(h);
    return h;
}

/* Along the first axis, of a block of neighbouring points. */
Handle first_axis(long planes, long plane, long block) {
    Handle h;
    long strides[2] = {0, plane};
    DftiCreateDescriptor_s_1d(&h, COMPLEX, planes);
    DftiSetValue(h, IN_STRIDES, strides);
    DftiSetValue(h, OUT_STRIDES, strides);
    DftiSetValue(h, TRANSFORMS, block);
    DftiSetValue(h, IN_DISTANCE, 1L);
    DftiSetValue(h, OUT_DISTANCE, 1L);
    DftiCommitDescriptor(h);
    return h;
}

static inline void times(const float *restrict s, const float *restrict x, float *restrict z, long n) {
    for (long i = 0; i < 2 * n; i += 2) {
        z[i] = s[i] * x[i] - s[i + 1] * x[i + 1];
        z[i + 1] = s[i] * x[i + 1] + s[i + 1] * x[i];
    }
}

static inline void add_conjugate_times(const float *restrict s, const float *restrict z, float *restrict x, long n) {
    for (long i = 0; i < 2 * n; i += 2) {
        x[i] += s[i] * z[i] + s[i + 1] * z[i + 1];
        x[i + 1] += s[i] * z[i + 1] - s[i + 1] * z[i];
    }
}

static inline void masked(const float *m, const float *y, float *z, long n) {
    for (long i = 0; i < n; i++) z[2 * i] = m[i] * y[2 * i], z[2 * i + 1] = m[i] * y[2 * i + 1];
}

void whole_A(Handle h, long coils, long n, const float *s, const float *x, const float *m, float *y, float *z) {
    for (long c = 0; c < coils; c++, s += 2 * n, y += 2 * n) {
        times(s, x, z, n);
        DftiComputeForward(h, z);
        masked(m, z, y, n);
    }
}

void whole_AH(Handle h, long coils, long n, const float *s, const float *y, const float *m, float *x, float *z) {
    memset(x, 0, 2 * n * sizeof *x);
    for (long c = 0; c < coils; c++, s += 2 * n, y += 2 * n) {
        masked(m, y, z, n);
        DftiComputeBackward(h, z);
        add_conjugate_times(s, z, x, n);
    }
}

void whole_AHA(Handle h, long coils, long n, const float *s, const float *x, const float *m, float *r, float *z) {
    memset(r, 0, 2 * n * sizeof *r);
    for (long c = 0; c < coils; c++, s += 2 * n) {
        times(s, x, z, n);
        DftiComputeForward(h, z);
        masked(m, z, z, n);
        DftiComputeBackward(h, z);
        add_conjugate_times(s, z, r, n);
    }
}

typedef struct { Handle plane_h, first_h; long planes, plane, at_once, block; } Slabs;

static void block_masked(const Slabs *p, const float *m, const float *y, float *z, long q) {
    for (long j = q; j < p->planes * p->plane; j += p->plane) masked(m + j, y + 2 * j, z + 2 * j, p->block);
}

void slabs_A(Slabs *p, long coils, const float *s, const float *x, const float *m, float *y) {
    long n = p->planes * p->plane, some = p->at_once * p->plane;
    for (long c = 0; c < coils; c++, s += 2 * n, y += 2 * n) {
        for (long j = 0; j < n; j += some) {
            times(s + 2 * j, x + 2 * j, y + 2 * j, some);
            DftiComputeForward(p->plane_h, y + 2 * j);
        }
        for (long q = 0; q < p->plane; q += p->block) {
            DftiComputeForward(p->first_h, y + 2 * q);
            block_masked(p, m, y, y, q);
        }
    }
}

void slabs_AH(Slabs *p, long coils, const float *s, const float *y, const float *m, float *x, float *z) {
    long n = p->planes * p->plane, some = p->at_once * p->plane;
    memset(x, 0, 2 * n * sizeof *x);
    for (long c = 0; c < coils; c++, s += 2 * n, y += 2 * n) {
        for (long q = 0; q < p->plane; q += p->block) {
            block_masked(p, m, y, z, q);
            DftiComputeBackward(p->first_h, z + 2 * q);
        }
        for (long j = 0; j < n; j += some) {
            DftiComputeBackward(p->plane_h, z + 2 * j);
            add_conjugate_times(s + 2 * j, z + 2 * j, x + 2 * j, some);
        }
    }
}

void slabs_AHA(Slabs *p, long coils, const float *s, const float *x, const float *m, float *r, float *z) {
    long n = p->planes * p->plane, some = p->at_once * p->plane;
    memset(r, 0, 2 * n * sizeof *r);
    for (long c = 0; c < coils; c++, s += 2 * n) {
        for (long j = 0; j < n; j += some) {
            times(s + 2 * j, x + 2 * j, z + 2 * j, some);
            DftiComputeForward(p->plane_h, z + 2 * j);
        }
        for (long q = 0; q < p->plane; q += p->block) {
            DftiComputeForward(p->first_h, z + 2 * q);
            block_masked(p, m, z, z, q);
            DftiComputeBackward(p->first_h, z + 2 * q);
        }
        for (long j = 0; j < n; j += some) {
            DftiComputeBackward(p->plane_h, z + 2 * j);
            add_conjugate_times(s + 2 * j, z + 2 * j, r + 2 * j, some);
        }
    }
}
