//! The policy of `cargo xtask bench` as a proxy-wasm filter: the header, else FNV-1a of the cookie, is answered in
//! `x-policy`, by which Envoy's routes choose.

use proxy_wasm::traits::{Context, HttpContext};
use proxy_wasm::types::Action;

proxy_wasm::main! {{
    proxy_wasm::set_http_context(|_, _| -> Box<dyn HttpContext> { Box::new(Policy) });
}}

struct Policy;

impl Context for Policy {}

impl HttpContext for Policy {
    fn on_http_request_headers(&mut self, _: usize, _: bool) -> Action {
        let pool = if self.is_canary() { "canary" } else { "stable" };
        self.set_http_request_header("x-policy", Some(pool));
        // The route was chosen before the filter ran; without this it would stay.
        let _ = proxy_wasm::hostcalls::call_foreign_function("clear_route_cache", None);
        Action::Continue
    }
}

impl Policy {
    fn is_canary(&self) -> bool {
        if self.get_http_request_header("x-canary").as_deref() == Some("1") {
            return true;
        }
        let cookies = self.get_http_request_header("cookie").unwrap_or_default();
        let uid = cookies.split(';').find_map(|cookie| cookie.trim_start().strip_prefix("uid=")).unwrap_or_default();
        fnv1a(uid.as_bytes()) % 100 >= 90
    }
}

fn fnv1a(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}
