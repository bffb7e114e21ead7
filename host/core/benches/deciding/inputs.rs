//! What the operations work on: requests as a browser sends them, and random bits from a seed.

use http::{HeaderName, HeaderValue};
use witgate_core::request::Head;

/// Different requests of an operation, unless it says otherwise: so many that the seeds of hash maps do not matter.
pub(crate) const REQUESTS: usize = 1024;

/// A browser's request with its eight headers. The third of four cookies is `uid=user-N`.
pub(crate) fn browser(host: &str, target: &str, n: usize) -> Head {
    let cookies = format!("_ga=GA1.2.1713374622.1700000{:03}; theme=dark; uid=user-{n}; lang=en-GB", n % 1000);
    let referer = format!("https://{host}/catalogue/shoes");
    let headers = [
        ("host", host),
        ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"),
        ("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"),
        ("accept-language", "en-GB,en;q=0.7,de;q=0.3"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("referer", &referer),
        ("connection", "keep-alive"),
        ("cookie", &cookies),
    ];
    let mut head = Head {
        uri: target.parse().expect("a target"),
        client: [203, 0, (n >> 8 & 0xff) as u8, (n & 0xff) as u8].into(),
        ..Head::default()
    };
    for (name, value) in headers {
        head.headers.insert(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a header"));
    }
    head
}

/// Requests of as many users to one host.
pub(crate) fn users() -> Vec<Head> {
    let target = |n| format!("/catalogue/shoes?page={}&q=blue+suede&user=u{n}", n % 7);
    (0..REQUESTS).map(|n| browser("www.example.com", &target(n), n)).collect()
}

/// 0 to `count`, over and over.
pub(crate) fn cycle(count: usize) -> impl FnMut() -> usize {
    let mut numbers = (0..count).cycle();
    move || numbers.next().unwrap_or_default()
}

/// SplitMix64 (Steele et al. 2014).
pub(crate) fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed;
    move || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }
}
