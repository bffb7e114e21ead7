//! The binary: chooses the allocator, hands the command line to [`witgate::cli`], and its exit code to the system.

/// Measured beside the C library's and jemalloc: docs/performance.md. The binary's alone: who embeds the library has one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    witgate::memory::set_give_back(give_back);
    witgate::cli::main()
}

/// By itself the allocator gives back late, and never while nothing is allocated; told to do it at once, each request that
/// frees the last block of a page would pay for it.
#[expect(unsafe_code, reason = "there is no safe function for it")]
fn give_back() {
    // SAFETY: may be called at any time by any thread (mimalloc's manual, "mi_collect").
    unsafe { libmimalloc_sys::mi_collect(true) }
}
