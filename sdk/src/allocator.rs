//! The component's allocator. A question allocates a few small values and frees them before it ends, so what an
//! allocation costs shows in every request. Absent from native builds, and where feature `allocator` is off.

use talc::wasm::{WasmDynamicTalc, new_wasm_dynamic_allocator};

/// talc: a third of the time that the standard library's dlmalloc takes, and a smaller module.
#[global_allocator]
static ALLOCATOR: WasmDynamicTalc = new_wasm_dynamic_allocator();
