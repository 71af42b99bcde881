// ---- prelude: kernels as a GPU's entry points: tasks are dealt to threads -------------------------------------------------------
#define TN_ENTRY(kernel)                                                                                                          \
    __attribute__((nvptx_kernel)) void kernel##_entry(const tn_args *a, long tasks) {                                             \
        long threads = (long)__nvvm_read_ptx_sreg_nctaid_x() * __nvvm_read_ptx_sreg_ntid_x();                                     \
        long first = (long)__nvvm_read_ptx_sreg_ctaid_x() * __nvvm_read_ptx_sreg_ntid_x() + __nvvm_read_ptx_sreg_tid_x();          \
        for (long task = first; task < tasks; task += threads) kernel(a, task, task + 1);                                        \
    }
