/* Products as cuBLAS gives them (cuda/cublas_v2.h), on the CPU: column-major, sums in float32. */
#include "cuda/cublas_v2.h"
#include "runtime.h"

#include <cstring>
#include <vector>

struct emu_cublas {
    cudaStream_t stream;
};

namespace {

/* op(M) (rows, cols), column-major, as floats: (rows, cols) row-major. */
std::vector<float> matrix(const void *m, cudaDataType type, bool transposed, int64_t rows,
                          int64_t cols, int64_t ld) {
    std::vector<float> out(size_t(rows * cols));
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < cols; c++) {
            const int64_t at = transposed ? c + r * ld : r + c * ld;
            float &to = out[size_t(r * cols + c)];
            if (type == CUDA_R_32F) {
                to = static_cast<const float *>(m)[at];
            } else {
                uint32_t bits = uint32_t(static_cast<const uint16_t *>(m)[at]) << 16;
                memcpy(&to, &bits, sizeof to);
            }
        }
    return out;
}

struct product {
    bool trans_a, trans_b;
    int64_t m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const void *a, *b;
    cudaDataType type, c_type;
    void *c;

    bool in_bounds() const {
        const size_t size = type == CUDA_R_32F ? 4 : 2;
        auto span = [](int64_t rows, int64_t cols,
                       int64_t ld) { /* elements from first to last */
                                     return size_t((cols - 1) * ld + rows);
        };
        return emu_device_range(a, size * (trans_a ? span(k, m, lda) : span(m, k, lda)), "A") &&
               emu_device_range(b, size * (trans_b ? span(n, k, ldb) : span(k, n, ldb)), "B") &&
               emu_device_range(c, (c_type == CUDA_R_32F ? 4 : 2) * span(m, n, ldc), "C");
    }
    /* C[at] = value + beta C[at]; with beta 0, C is not read. */
    void put(int64_t at, float value) const {
        float *wide = static_cast<float *>(c) + at;
        if (beta != 0) value += beta * *wide;
        if (c_type == CUDA_R_32F) {
            *wide = value;
            return;
        }
        uint32_t bits; /* to the nearest, ties to even */
        memcpy(&bits, &value, sizeof bits);
        bits = value == value ? bits + 0x7fff + (bits >> 16 & 1) : bits | 1u << 22;
        static_cast<uint16_t *>(c)[at] = uint16_t(bits >> 16);
    }
    void run() const {
        if (!in_bounds()) return;
        std::vector<float> x = matrix(a, type, trans_a, m, k, lda);
        std::vector<float> y = matrix(b, type, !trans_b, n, k, ldb); /* op(B)^T: rows of k */
        for (int64_t j = 0; j < n; j++)
            for (int64_t i = 0; i < m; i++) {
                const float *row = &x[size_t(i * k)], *col = &y[size_t(j * k)];
                float sum = 0;
                for (int64_t p = 0; p < k; p++) sum += row[p] * col[p];
                put(i + j * ldc, alpha * sum);
            }
    }
};

cublasStatus_t entered() {
    return emu_enter() ? CUBLAS_STATUS_EXECUTION_FAILED : CUBLAS_STATUS_SUCCESS;
}

} // namespace

const char *cublasGetStatusString(cublasStatus_t status) {
    switch (status) {
    case CUBLAS_STATUS_SUCCESS: return "success";
    case CUBLAS_STATUS_NOT_INITIALIZED: return "the library was not initialized";
    case CUBLAS_STATUS_ALLOC_FAILED: return "the resource allocation failed";
    case CUBLAS_STATUS_INVALID_VALUE: return "an unsupported value or parameter was passed";
    case CUBLAS_STATUS_EXECUTION_FAILED: return "the function failed to launch on the GPU";
    case CUBLAS_STATUS_NOT_SUPPORTED: break;
    }
    return "the functionality requested is not supported";
}

cublasStatus_t cublasCreate(cublasHandle_t *handle) {
    *handle = nullptr;
    cublasStatus_t status = entered();
    if (!status) *handle = new emu_cublas{};
    return status;
}
cublasStatus_t cublasDestroy(cublasHandle_t handle) {
    delete handle;
    return entered();
}
cublasStatus_t cublasSetStream(cublasHandle_t handle, cudaStream_t stream) {
    handle->stream = stream;
    return entered();
}
cublasStatus_t cublasSetWorkspace(cublasHandle_t, void *, size_t) {
    return entered();
}
cublasStatus_t cublasSetMathMode(cublasHandle_t, cublasMath_t) {
    return entered();
}

cublasStatus_t cublasGemmEx_64(cublasHandle_t handle, cublasOperation_t trans_a,
                               cublasOperation_t trans_b, int64_t m, int64_t n, int64_t k,
                               const void *alpha, const void *a, cudaDataType a_type, int64_t lda,
                               const void *b, cudaDataType b_type, int64_t ldb, const void *beta,
                               void *c, cudaDataType c_type, int64_t ldc,
                               cublasComputeType_t compute, cublasGemmAlgo_t) {
    cublasStatus_t status = entered();
    if (status) return status;
    product p = {trans_a != CUBLAS_OP_N,
                 trans_b != CUBLAS_OP_N,
                 m,
                 n,
                 k,
                 lda,
                 ldb,
                 ldc,
                 *static_cast<const float *>(alpha),
                 *static_cast<const float *>(beta),
                 a,
                 b,
                 a_type,
                 c_type,
                 c};
    if (a_type != b_type || (c_type != CUDA_R_32F && c_type != a_type) ||
        (c_type != CUDA_R_32F && p.beta != 0) || compute != CUBLAS_COMPUTE_32F)
        return CUBLAS_STATUS_NOT_SUPPORTED;
    const int64_t a_rows = p.trans_a ? k : m, b_rows = p.trans_b ? n : k;
    if (m < 0 || n < 0 || k < 0 || lda < (a_rows > 1 ? a_rows : 1) ||
        ldb < (b_rows > 1 ? b_rows : 1) || ldc < (m > 1 ? m : 1))
        return CUBLAS_STATUS_INVALID_VALUE;
    if (m == 0 || n == 0) return CUBLAS_STATUS_SUCCESS;
    emu_enqueue(handle->stream, [=] { p.run(); });
    return CUBLAS_STATUS_SUCCESS;
}
