//! What is sent: a browser's request, and an origin's responses.

use http::{HeaderName, HeaderValue};
use witgate_core::request::Head;

/// The host that is asked.
pub(crate) const HOST: &str = "www.example.com";

const TARGET: &str = "/catalogue/shoes?page=2&q=blue+suede";

/// What is in a browser's request every time.
const BROWSER: [(&str, &str); 7] = [
    ("host", HOST),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
    ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
    ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
    ("accept-encoding", "gzip, deflate, br, zstd"),
    ("referer", "https://www.example.com/catalogue/shoes"),
    ("cookie", "_ga=GA1.2.1713374622.1700000042; theme=dark; uid=user-42; lang=en-GB"),
];

/// The eighth header.
pub(crate) const KEEP_ALIVE: (&str, &str) = ("connection", "keep-alive");
/// The eighth header where it is not [`KEEP_ALIVE`].
pub(crate) const UPGRADE_INSECURE: (&str, &str) = ("upgrade-insecure-requests", "1");

/// What a proxy in front of this one says.
pub(crate) const IN_FRONT: [(&str, &str); 4] = [
    ("x-forwarded-for", "203.0.113.7"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", HOST),
    ("x-request-id", "4bf92f3577b34da6a3ce929d0e0e4736"),
];

/// A browser's request as it was parsed, with these headers behind its seven.
pub(crate) fn head(more: &[(&'static str, &'static str)]) -> Head {
    let mut head = Head { uri: TARGET.parse().expect("a target"), ..Head::default() };
    for &(name, value) in BROWSER.iter().chain(more) {
        head.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    head
}

/// The same as it comes over the wire, with the eight headers.
pub(crate) fn request() -> Vec<u8> {
    let headers = BROWSER.iter().chain([&KEEP_ALIVE]).map(|(name, value)| format!("{name}: {value}\r\n"));
    format!("GET {TARGET} HTTP/1.1\r\n{}\r\n", headers.collect::<String>()).into_bytes()
}

/// An origin's response with a body of so many times `byte`.
pub(crate) fn response(byte: u8, size: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nserver: nginx/1.22.1\r\ndate: Tue, 14 Nov 2023 22:13:20 GMT\r\n\
         content-type: text/plain\r\ncontent-length: {size}\r\nlast-modified: Mon, 13 Nov 2023 10:00:00 GMT\r\n\
         connection: keep-alive\r\netag: \"6551f5a0-80\"\r\naccept-ranges: bytes\r\n\r\n"
    );
    let mut response = head.into_bytes();
    response.resize(response.len() + size, byte);
    response
}
